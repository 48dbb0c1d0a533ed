import { type FailureRecord, failureRecord } from '../failure.ts'
import { isStepTerminal } from '../machines.ts'
import { keyText, type Step, type StepKey } from '../step.ts'
import type { WorkflowNode } from '../workflow.ts'
import type { StopHappening } from './happenings.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'

/** What is idle ends at once; what runs ends when its worker says so. */
export function* stopRun(round: Round, why: StopHappening['why']): Generator<Need, void, Given> {
  // A person's cancel outranks the time-out, and that failFast; a second one changes nothing.
  const { stop } = round.run
  if (stop === 'cancel' || stop === why || (stop === 'timeout' && why === 'fail_fast')) return
  round.run.stop = why
  if (why === 'timeout') {
    const { timeoutMs } = round.input.definition
    round.run.failure ??= failureRecord('run.timed_out', `running ${round.run.id}`, {
      evidence: { timeoutMs: timeoutMs ?? 0 },
    })
  }
  const given = yield { type: 'idle_steps' }
  for (const step of given.steps ?? []) if (!round.rows.has(keyText(step))) round.rows.set(keyText(step), step)
  for (const step of [...round.rows.values()]) {
    if (!isStepTerminal(step.state) && step.state !== 'running') round.put(step, { type: 'canceled', failure: null })
  }
  // Everything idle has ended already; nobody is left to be told.
  round.ended = round.ended.filter((s) => s.path !== '')
  round.owed.clear()
}

/** The join is met and its step wants no others: what is idle ends, what runs is told to stop. */
export function* cancelRest(round: Round, node: WorkflowNode): Generator<Need, void, Given> {
  yield* round.load(node.needs.map((need) => ({ node: need, path: '' })))
  for (const need of node.needs) {
    const step = round.rows.get(keyText({ node: need, path: '' }))
    if (!step || isStepTerminal(step.state)) continue
    if (step.state === 'waiting' && step.waits === 'children') {
      const given = yield { type: 'open_activations', node: need }
      for (const row of given.steps ?? []) if (!round.rows.has(keyText(row))) round.rows.set(keyText(row), row)
      for (const row of [...round.rows.values()]) if (row.node === need && row.path !== '') stopStep(round, row)
    }
    stopStep(round, step)
  }
}

function stopStep(round: Round, step: Step): void {
  if (isStepTerminal(step.state)) return
  if (step.state !== 'running') {
    round.put(step, { type: 'canceled', failure: notNeeded(round, step, null) }, { code: 'step.not_needed' })
    return
  }
  const stopping: Step = { ...step, stopping: true }
  round.rows.set(keyText(step), stopping)
  round.changed.set(keyText(step), stopping)
}

/** Why a step was stopped that only a join with `rest: cancel` made needless. */
export function notNeeded(round: Round, step: StepKey, cause: FailureRecord | null): FailureRecord {
  const record = failureRecord(
    'step.not_needed',
    `stopping ${round.nameOf(step)}: the join after it was met without it`,
  )
  return cause ? { ...record, cause } : record
}
