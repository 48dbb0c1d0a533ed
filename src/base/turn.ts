/**
 * Does `work` at the end of this turn of the event loop, when everything that had arrived is read. No time passes and no clock is
 * asked: it only comes after what is there already.
 */
export const atEndOfTurn = (work: () => void): void => void setImmediate(work)

/** Resolves at the end of this turn of the event loop. */
export const endOfTurn = (): Promise<void> => new Promise(atEndOfTurn)
