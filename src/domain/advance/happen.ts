import { keyText } from '../step.ts'
import { answer } from './answers.ts'
import { failStep, lose } from './attempts.ts'
import { comeDue } from './due.ts'
import type { Happening } from './happenings.ts'
import type { Given, Need } from './needs.ts'
import { callDecided, parkAttempt } from './parking.ts'
import type { Round } from './round.ts'
import { notNeeded } from './stopping.ts'

/** What a report, a person, a run below or the clock says of one step. */
export function* happen(round: Round, h: Happening): Generator<Need, void, Given> {
  const step = round.rows.get(keyText(h))
  if (!step) return void round.result.stale.push(h)
  if (h.type === 'due') return yield* comeDue(round, step, h.waitedFor ?? null)
  if (h.type === 'call_decided') return yield* callDecided(round, step, h)
  if (h.type === 'decided' || h.type === 'child_ended' || h.type === 'approval_missing')
    return yield* answer(round, step, h)
  if (step.state !== 'running' || step.fence !== h.fence || step.session !== h.session)
    return void round.result.stale.push(h)
  // While the run is being stopped nothing revives it: what comes late is kept as evidence and the step is canceled. A step that only
  // nobody needs any more may still succeed.
  const isStopped = round.run.stop !== null || (step.stopping && h.type !== 'attempt_succeeded')
  if (isStopped && h.type !== 'attempt_lost') {
    const late = h.type === 'attempt_failed' ? h.failure : null
    const failure = step.stopping ? notNeeded(round, step, late) : late
    if (h.type === 'attempt_succeeded') round.result.outputs.push({ node: h.node, path: h.path, output: h.output })
    round.endAttempt(step, 'canceled', failure)
    round.put(step, { type: 'canceled', failure })
    return
  }
  switch (h.type) {
    case 'attempt_succeeded':
      round.result.outputs.push({ node: h.node, path: h.path, output: h.output })
      round.put(step, { type: 'succeeded' })
      return
    case 'attempt_failed':
      round.endAttempt(step, 'failed', h.failure)
      failStep(round, step, h.failure)
      return
    case 'attempt_lost':
      return lose(round, step, h.failure)
    case 'attempt_parked':
      return yield* parkAttempt(round, step, h.on)
    case 'attempt_returned':
    case 'attempt_canceled':
    case 'attempt_left':
      // A cancel that nobody asked for is a step given back.
      round.endAttempt(step, 'parked', null)
      round.put(step, { type: 'requeued', loss: false, expiresAt: round.expiry(step) })
      return
  }
}
