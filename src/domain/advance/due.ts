import { type FailureRecord, failureRecord } from '../failure.ts'
import { keyText, type Step } from '../step.ts'
import { isJournaled, isWork } from '../workflow.ts'
import { expire } from './answers.ts'
import { failStep } from './attempts.ts'
import type { Given, Need } from './needs.ts'
import { waitOfAgentIsOver } from './parking.ts'
import type { Round } from './round.ts'
import { notNeeded } from './stopping.ts'

/** The time has come that was owed to a step. */
export function* comeDue(round: Round, step: Step, waitedFor: FailureRecord | null): Generator<Need, void, Given> {
  if (step.dueAt === null || step.dueAt > round.input.now) return
  if (step.state === 'waiting' && step.waits === 'backoff') {
    if (isWork(round.node(step.node))) round.put(step, { type: 'ready', expiresAt: round.expiry(step) })
    else round.owed.set(keyText(step), step)
  } else if (step.state === 'waiting' && step.waits !== 'children') {
    if (isJournaled(round.node(step.node))) yield* waitOfAgentIsOver(round, step)
    else waitIsOver(round, step)
  } else if (step.state === 'queued') {
    const failure: FailureRecord = {
      ...failureRecord('dispatch.expired', `waiting for a worker to take ${round.nameOf(step)}`, {
        evidence: { queueTimeoutMs: round.node(step.node).queueTimeoutMs ?? 0 },
      }),
      ...(waitedFor ? { cause: waitedFor } : {}),
    }
    round.put(step, { type: 'failed', failure }, { code: failure.code })
  } else if (step.state === 'running') {
    // The worker enforces time-outs; this one has let the deadline and its grace pass without a word.
    const failure = failureRecord(
      'step.timed_out',
      `running ${round.nameOf(step)}: the worker did not stop it in time`,
      {
        evidence: { timeoutMs: round.node(step.node).timeoutMs ?? 0, enforcedBy: 'server' },
      },
    )
    const isStopped = step.stopping || round.run.stop !== null
    round.endAttempt(step, isStopped ? 'canceled' : 'failed', failure)
    if (step.stopping) round.put(step, { type: 'canceled', failure: notNeeded(round, step, failure) })
    else failStep(round, step, failure)
  } else if (step.state === 'pending' || step.state === 'waiting') {
    round.owed.set(keyText(step), step)
  }
}

/** The time of a step that waits in a row has come: a timer is done, everything else is too late. */
function waitIsOver(round: Round, step: Step & { state: 'waiting' }): void {
  const node = round.node(step.node)
  if (step.waits === 'timer') round.put(step, { type: 'succeeded' })
  else if (step.waits === 'event') {
    const failure = failureRecord('wait.timed_out', `waiting for event ${step.on ?? ''} in ${round.nameOf(step)}`, {
      evidence: {
        event: step.on ?? '',
        ...(node.kind === 'wait' && 'timeoutMs' in node.for ? { timeoutMs: node.for.timeoutMs } : {}),
      },
    })
    round.put(step, { type: 'failed', failure }, { code: failure.code })
  } else if (step.waits === 'approval') expire(round, step, node.kind === 'approval' && node.onExpiry === 'approve')
  else {
    const failure = failureRecord(
      'step.timed_out',
      `running ${round.nameOf(step)}: ${step.on ?? ''} did not end in time`,
      {
        evidence: { timeoutMs: node.timeoutMs ?? 0, run: step.on ?? '', enforcedBy: 'server' },
      },
    )
    failStep(round, step, failure)
  }
}
