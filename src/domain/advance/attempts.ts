import { backoffMs } from '../../base/backoff.ts'
import { type FailureRecord, failureRecord } from '../failure.ts'
import { FAILURES } from '../failures.ts'
import { LIMITS } from '../limits.ts'
import { isTry, type Step } from '../step.ts'
import type { Round } from './round.ts'
import { notNeeded } from './stopping.ts'

/** The failure of a try: another one after a back-off, or the end. In a run that is being stopped nothing is tried again. */
export function failStep(round: Round, step: Step, failure: FailureRecord, answered: { answered?: true } = {}): void {
  if (round.run.stop !== null) return void round.put(step, { type: 'canceled', failure }, answered)
  const { retry } = round.node(step.node)
  // A code of the product's own world (the worker had no disk) may be retried too; a code that can never succeed may not.
  const fits = retry.on === null ? FAILURES[failure.code].retry !== 'never' : retry.on.includes(failure.code)
  const note = { code: failure.code, ...answered }
  if (isTry(step) && step.tries < retry.max && fits) {
    const at = round.input.now + backoffMs(retry, step.tries + 1, round.input.random)
    round.put(step, { type: 'backed_off', at }, note)
    return
  }
  round.put(step, { type: 'failed', failure }, note)
}

/** The worker is gone: the step goes back into its queue, unless it has cost too many workers. */
export function lose(round: Round, step: Step & { state: 'running' }, failure: FailureRecord): void {
  round.endAttempt(step, 'lost', failure)
  if (round.run.stop !== null || step.stopping) {
    round.put(step, { type: 'canceled', failure: step.stopping ? notNeeded(round, step, failure) : failure })
    return
  }
  if (step.losses + 1 >= LIMITS.lossesMax) {
    const poison: FailureRecord = {
      ...failureRecord('attempt.poison', `running ${round.nameOf(step)}: lost ${step.losses + 1} workers`, {
        evidence: { losses: step.losses + 1, lastLoss: failure.code },
      }),
      cause: failure,
    }
    round.put(step, { type: 'failed', failure: poison }, { code: 'attempt.poison' })
    return
  }
  round.put(step, { type: 'requeued', loss: true, expiresAt: round.expiry(step) }, { code: failure.code })
}
