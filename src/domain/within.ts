import { createContext, Script } from 'node:vm'

const script = new Script('call()')
const context = createContext({ call: () => undefined })

/** A process that was suspended, or had no processor, is not what took the time: so often the work is begun anew. */
const TRIES_MAX = 3
/** The least part of the time that work has to have had a processor for, to be what took it. */
const BUSY_SHARE = 0.5

/** Thrown by `within` when the time is over. */
export class TookTooLong extends Error {
  override name = 'TookTooLong'
}

/**
 * Runs `work`, which is pure and synchronous, for at most `ms` and throws TookTooLong when the time is over. Regular expressions and
 * loops are interrupted too, wherever they stand. Costs about 0.15 ms, so callers leave it out for work that is surely short.
 */
export function within<T>(ms: number, work: () => T): T {
  for (let tries = 1; ; tries++) {
    const begun = process.threadCpuUsage()
    try {
      return tryWithin(ms, work)
    } catch (error) {
      const { user, system } = process.threadCpuUsage(begun)
      const isBusy = (user + system) / 1000 >= ms * BUSY_SHARE
      if (!(error instanceof TookTooLong) || isBusy || tries === TRIES_MAX) throw error
    }
  }
}

function tryWithin<T>(ms: number, work: () => T): T {
  const outer = context['call']
  let result: { value: T } | undefined
  context['call'] = () => {
    result = { value: work() }
  }
  try {
    script.runInContext(context, { timeout: ms })
  } catch (error) {
    if (isTimeout(error)) throw new TookTooLong(`took longer than ${ms} ms`)
    throw error
  } finally {
    context['call'] = outer
  }
  if (result === undefined) throw new TookTooLong(`took longer than ${ms} ms`)
  return result.value
}

const isTimeout = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
