import { parseDuration } from '../base/index.ts'
import type { CliDeps } from './deps.ts'
import { usageFailure } from './usage.ts'

/** The moment that `--since` names, in ms: `10m` ago, or an instant. */
export function instantOf(deps: Pick<CliDeps, 'clock'>, text: string): number {
  const ms = parseDuration(text)
  if (ms !== null) return deps.clock.now() - ms
  const at = Date.parse(text)
  if (Number.isNaN(at))
    throw usageFailure(
      `--since ${text}: is no time`,
      'Use a duration such as 10m, or an instant such as 2026-11-22T09:00:00Z.',
    )
  return at
}
