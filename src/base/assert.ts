/** A bug, not a failure: the state cannot be. Stops the request or run at hand and is never retried. */
export class Bug extends Error {
  override name = 'Bug'
}

/** Throws a Bug unless `condition` holds. On in production too. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Bug(message)
}

/** For the end of a switch over a union: a forgotten case does not compile. */
export function unreachable(value: never): never {
  throw new Bug(`unreachable: ${JSON.stringify(value)}`)
}
