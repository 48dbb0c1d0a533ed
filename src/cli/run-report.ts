import { formatDuration, type Json } from '../base/index.ts'
import type { Client } from '../client/client.ts'
import type { RunState, RunView, StepView } from '../contract/api-types.ts'
import type { FailureRecord } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'
import { failureLines } from './failure-text.ts'
import { type Line, printableLine, span, truncate } from './terminal-text.ts'
import { styleOfRun } from './tree.ts'

/** Pages of steps that are read to find activations that failed. */
const PAGES_MAX = 20
const PAGE = 500

export const isRunEnded = (state: RunState): boolean =>
  state === 'succeeded' || state === 'failed' || state === 'canceled'

/** Exit code of a command that followed the run to its end. */
export function exitOfRun(run: RunView): number {
  if (run.state === 'succeeded') return 0
  if (run.state === 'canceled') return FAILURES['run.canceled'].exit
  return FAILURES[run.failure?.code ?? 'run.failed'].exit
}

/** Steps that failed by themselves, activations of a forEach instead of their step; at most `max`. */
export async function findFailedSteps(client: Client, run: RunView, max: number): Promise<StepView[]> {
  const failed = run.stepList.filter((step) => step.state === 'failed' || (step.activations?.failed ?? 0) > 0)
  if (!failed.some((step) => step.activations)) return failed.slice(0, max)
  const parents = new Set(failed.filter((step) => step.activations).map((step) => step.name))
  const found = failed.filter((step) => !step.activations)
  let cursor: string | undefined
  for (let page = 0; page < PAGES_MAX && found.length < max; page++) {
    const { items, next } = await client.listSteps(run.id, { limit: PAGE, ...(cursor ? { cursor } : {}) })
    const isFailedActivation = (step: StepView) =>
      step.state === 'failed' && step.name.includes('[') && parents.has(step.name.slice(0, step.name.indexOf('[')))
    found.push(...items.filter(isFailedActivation))
    if (next === null) break
    cursor = next
  }
  const named = new Set(found.map((step) => step.name.split('[')[0]))
  return [...found, ...failed.filter((step) => step.activations && !named.has(step.name))].slice(0, max)
}

/** Outputs of the steps that no other step needs: what the run is about. */
export function outputsOf(run: RunView): Record<string, Json> {
  const needed = new Set(run.stepList.flatMap((step) => step.needs))
  const last = run.stepList.filter(
    (step) => step.state === 'succeeded' && !step.name.includes('[') && !needed.has(step.name),
  )
  return Object.fromEntries(last.filter((step) => step.output !== null).map((step) => [step.name, step.output]))
}

export function tookOfRun(run: RunView): number | null {
  if (!run.endedAt) return null
  return Math.max(0, Date.parse(run.endedAt) - Date.parse(run.startedAt ?? run.createdAt))
}

/** The failure of one step with its name, its attempts and what to run next. */
export function stepFailureLines(run: { id: string }, step: StepView, width: number): Line[] {
  if (!step.failure) return []
  const tries = step.attempts.length > 1 ? `  after ${step.attempts.length} attempts` : ''
  const on = step.worker ? `  on ${printableLine(step.worker)}` : ''
  const kept = step.kept
    ? [[span(`  workspace kept until ${step.kept.until} on ${step.kept.worker}: ${step.kept.path}`, 'dim')]]
    : []
  return [
    [span('step '), span(printableLine(step.name), 'bold'), span(`${on}${tries}`, 'dim')],
    ...failureLines(step.failure, {
      width,
      next: [
        `orrery runs show ${run.id}`,
        `orrery runs logs ${run.id} --step ${printableLine(step.name)}`,
        `orrery explain ${step.failure.code}`,
      ],
    }),
    ...kept,
  ]
}

/** The last words on a run that has ended. */
export function outcomeLines(run: RunView, failed: StepView[], options: { width: number }): Line[] {
  const took = tookOfRun(run)
  const lines: Line[] = []
  if (run.state === 'failed') {
    for (const step of failed) lines.push([], ...stepFailureLines(run, step, options.width))
    const left = run.steps.bad - failed.length
    if (left > 0) lines.push([], [span(`… ${left} more steps did not succeed: orrery runs show ${run.id}`, 'dim')])
    if (failed.length === 0 && run.failure) lines.push([], ...runFailureLines(run, run.failure, options.width))
    lines.push([])
  }
  const outputs = Object.entries(outputsOf(run))
  if (run.state === 'succeeded') {
    for (const [name, output] of outputs) {
      const text = printableLine(JSON.stringify(output))
      lines.push([span(`${printableLine(name)}  `, 'dim'), span(truncate(text, options.width - name.length - 2))])
    }
  }
  lines.push([
    span(`${run.id}  `, 'dim'),
    span(run.state, styleOfRun(run.state)),
    ...(took === null ? [] : [span(`  ${formatDuration(took)}`)]),
  ])
  return lines
}

const runFailureLines = (run: { id: string }, failure: FailureRecord, width: number): Line[] =>
  failureLines(failure, { width, next: [`orrery runs show ${run.id}`, `orrery explain ${failure.code}`] })
