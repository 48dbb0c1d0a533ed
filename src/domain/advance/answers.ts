import { failureOfProblems, failureRecord } from '../failure.ts'
import { checkSchema } from '../inputs.ts'
import { idsOf, keyText, type Step } from '../step.ts'
import { isJournaled } from '../workflow.ts'
import { failStep } from './attempts.ts'
import type { ChildEnd, Decision, Happening } from './happenings.ts'
import type { Given, Need } from './needs.ts'
import { belowEnded, waitOfAgentIsOver } from './parking.ts'
import type { Round } from './round.ts'

/** What a step waited for outside has come to its end: an approval or a run below. */
export function* answer(
  round: Round,
  step: Step,
  h: Extract<Happening, { type: 'decided' | 'child_ended' | 'approval_missing' }>,
): Generator<Need, void, Given> {
  const waits = h.type === 'child_ended' ? 'child' : 'approval'
  const isWanted = step.state === 'waiting' && step.waits === waits
  if (!isWanted || (h.type !== 'approval_missing' && h.fence !== step.fence)) return void round.result.stale.push(h)
  // Of several runs each is told of once.
  if (h.type === 'child_ended' && !idsOf(step).includes(h.run)) return void round.result.stale.push(h)
  if (isJournaled(round.node(step.node))) {
    // Of an agent's step: what it waits for is looked at anew, or the call has its answer. A decision about a call comes otherwise.
    if (h.type === 'approval_missing') yield* waitOfAgentIsOver(round, step)
    else if (h.type === 'child_ended') yield* belowEnded(round, step, h)
    else round.result.stale.push(h)
  } else if (h.type === 'approval_missing') round.owed.set(keyText(step), step)
  else if (h.type === 'decided') decided(round, step, h.decision)
  else childEnded(round, step, h.end)
}

function decided(round: Round, step: Step & { state: 'waiting' }, decision: Decision): void {
  const { approved, by, comment, fields } = decision
  const at = new Date(round.input.now).toISOString()
  const output = { approved, by, comment, at, ...(fields ? { inputs: fields } : {}) }
  round.result.outputs.push({ node: step.node, path: step.path, output })
  if (step.on !== null) round.beside.answered.push({ id: step.on, state: approved ? 'approved' : 'denied', decision })
  if (approved) return void round.put(step, { type: 'succeeded' }, { answered: true })
  const failure = failureRecord('approval.denied', `asking for approval in ${round.nameOf(step)}: ${by} denied it`, {
    evidence: { approval: step.on ?? '', by, comment, at },
  })
  round.put(step, { type: 'failed', failure }, { code: failure.code, answered: true })
}

function childEnded(round: Round, step: Step & { state: 'waiting' }, { state, failure, output }: ChildEnd): void {
  const child = step.on ?? ''
  const node = round.node(step.node)
  if (state === 'succeeded') {
    const problems = node.outputSchema ? checkSchema(output, node.outputSchema) : []
    round.result.outputs.push({ node: step.node, path: step.path, output })
    if (problems.length === 0) return void round.put(step, { type: 'succeeded' }, { answered: true })
    const violation = failureOfProblems(problems, `checking what ${child} gave for ${round.nameOf(step)}`)
    return failStep(round, step, violation.toRecord(), { answered: true })
  }
  const code = state === 'failed' ? 'child.failed' : 'child.canceled'
  const record = failureRecord(
    code,
    `running ${round.nameOf(step)}: ${child} ${state === 'failed' ? 'failed' : 'was canceled'}`,
    {
      evidence: { run: child, state, ...(failure ? { code: failure.code } : {}) },
    },
  )
  failStep(round, step, failure ? { ...record, cause: failure } : record, { answered: true })
}

/** Nobody decided: the default action counts. */
export function expire(round: Round, step: Step & { state: 'waiting' }, approved: boolean): void {
  const at = new Date(round.input.now).toISOString()
  const output = { approved, by: null, comment: null, at, expired: true }
  round.result.outputs.push({ node: step.node, path: step.path, output })
  if (step.on !== null) round.beside.answered.push({ id: step.on, state: 'expired', decision: null })
  if (approved) return void round.put(step, { type: 'succeeded' }, { answered: true })
  const failure = failureRecord('approval.expired', `asking for approval in ${round.nameOf(step)}: nobody decided`, {
    evidence: { approval: step.on ?? '', default: 'deny' },
  })
  round.put(step, { type: 'failed', failure }, { code: failure.code, answered: true })
}
