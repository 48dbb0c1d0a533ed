import { lookAtOwed } from './decide.ts'
import { happen } from './happen.ts'
import { eventSent } from './begin-step.ts'
import { isKeyed } from './happenings.ts'
import { tellDependents } from './joins.ts'
import type { Given, Need } from './needs.ts'
import { type AdvanceInput, Round } from './round.ts'
import type { AdvanceResult } from './result.ts'
import { stopRun } from './stopping.ts'

/**
 * Decides everything that follows from what happened: retries, joins, skips, blocks, forEach, the run's end. Pure: it asks for
 * rows by yielding a Need and goes on with what it is given, so the engine may load from SQL and a test from a map. Rows must
 * be locked by the caller (the run's row) while it runs.
 */
export function* advance(input: AdvanceInput): Generator<Need, AdvanceResult, Given> {
  return yield* go(new Round(input))
}

function* go(round: Round): Generator<Need, AdvanceResult, Given> {
  const keyed = round.input.happenings.filter(isKeyed)
  yield* round.load(keyed)
  for (const happening of keyed) yield* happen(round, happening)
  for (const h of round.input.happenings) if (h.type === 'stop') yield* stopRun(round, h.why)
  for (const h of round.input.happenings) if (h.type === 'event_sent') yield* eventSent(round, h.name)
  yield* settle(round)
  return finish(round)
}

/** Tells the dependents of what has ended, until nothing moves. */
function* settle(round: Round): Generator<Need, void, Given> {
  for (;;) {
    if (round.run.stop === null && round.run.bad > 0 && round.input.definition.failFast)
      yield* stopRun(round, 'fail_fast')
    if (round.ended.length > 0) yield* tellDependents(round)
    else if (round.owed.size > 0) yield* lookAtOwed(round)
    else return
  }
}

function finish(round: Round): AdvanceResult {
  const { run } = round
  const stoppedAs = run.stop === 'cancel' ? 'canceled' : 'failed'
  const ended = run.open > 0 ? null : run.stop !== null ? stoppedAs : run.bad > 0 ? 'failed' : 'succeeded'
  return {
    run,
    changed: [...round.changed.values()],
    created: [...round.created.values()],
    ...round.result,
    beside: round.beside,
    ended,
  }
}
