import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 20

export interface EventuallyOptions {
  withinMs: number
  /** What was waited for, for the message of a failure. */
  what?: string
}

/**
 * Polls until `read` gives something true and returns it. Reads a state, so that nothing is missed between two looks.
 * An error thrown by `read` counts as "not yet" and is shown when time is up.
 */
export async function eventually<T>(
  read: () => T | Promise<T>,
  options: EventuallyOptions,
): Promise<Exclude<T, null | undefined | false | 0 | ''>> {
  const until = performance.now() + options.withinMs
  for (;;) {
    let last: { value: T } | { error: unknown }
    try {
      last = { value: await read() }
    } catch (error) {
      last = { error }
    }
    if ('value' in last && last.value) return last.value as Exclude<T, null | undefined | false | 0 | ''> // just tested
    if (performance.now() >= until) {
      const what = `${options.what ?? 'the awaited state'} did not come within ${options.withinMs} ms`
      if ('error' in last) throw new Error(what, { cause: last.error })
      throw new Error(`${what}; last seen: ${JSON.stringify(last.value)}`)
    }
    await sleep(POLL_MS)
  }
}
