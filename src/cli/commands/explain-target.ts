import type { Client } from '../../client/client.ts'
import type { RunView, StepView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CliDeps } from '../deps.ts'
import { failureLines } from '../failure-text.ts'
import type { Output } from '../output.ts'
import { reasonLines } from '../reason-text.ts'
import { resolveRunId } from '../run-ids.ts'
import { stepFailureLines } from '../run-report.ts'
import { printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

const PAGES_MAX = 200
/** Steps of a run that are listed with their reasons. */
const STEPS_SHOWN = 40

export type Target = { kind: 'run'; run: string } | { kind: 'step'; run: string; step: string }

/** What `run/RUN` and `step/RUN/STEP` name; null when the text is a failure code. */
export function parseTarget(text: string): Target | null {
  const slash = text.indexOf('/')
  if (slash < 0) return null
  const [kind, rest] = [text.slice(0, slash), text.slice(slash + 1)]
  if (kind === 'run' && rest !== '' && !rest.includes('/')) return { kind, run: rest }
  const [, run, step] = /^([^/]+)\/(.+)$/.exec(rest) ?? []
  if (kind === 'step' && run !== undefined && step !== undefined) return { kind, run, step }
  throw usageFailure(
    `${JSON.stringify(text)} names nothing that can be explained`,
    'Write run/RUN, step/RUN/STEP or a failure code.',
  )
}

/** `orrery explain run/RUN` and `step/RUN/STEP`: why it is not running, or how it ended. */
export async function explainTarget(
  deps: CliDeps,
  output: Output,
  target: Target,
  flags: ServerFlags,
): Promise<number> {
  const client = await connect(deps, flags)
  const run = await client.getRun(await resolveRunId(client, target.run))
  if (target.kind === 'run') explainRun(deps, output, run)
  else explainStep(deps, output, run, await findStep(client, run, target.step))
  return 0
}

async function findStep(client: Client, run: RunView, name: string): Promise<StepView> {
  const shown = run.stepList.find((step) => step.name === name)
  if (shown) return shown
  let cursor: string | undefined
  for (let page = 0; page < PAGES_MAX; page++) {
    const { items, next } = await client.listSteps(run.id, { limit: LIMITS.pageMax, ...(cursor ? { cursor } : {}) })
    const found = items.find((step) => step.name === name)
    if (found) return found
    if (next === null) break
    cursor = next
  }
  throw new Failure('step.not_found', `looking for step ${name} of run ${run.id}`, {
    evidence: { steps: run.stepList.slice(0, 20).map((step) => step.name) },
  })
}

function explainRun(deps: CliDeps, output: Output, run: RunView): void {
  const open = run.stepList.filter((step) => step.reason !== null)
  if (output.isData) {
    const steps = open.map(({ name, state, reason }) => ({ name, state, reason }))
    output.printData({ run: run.id, state: run.state, reason: run.reason, failure: run.failure, steps })
    return
  }
  const { width } = output
  if (!run.reason) {
    output.print([span(`run ${run.id} `), span(run.state, 'bold')])
    if (run.failure) output.print(...failureLines(run.failure, { width }))
    output.remark(`  orrery runs show ${run.id}`)
    return
  }
  const { step } = run.reason
  const next = step === null ? [] : [`orrery explain step/${run.id}/${printableLine(step)}`]
  const options = { width, nowMs: deps.clock.now(), next: [...next, `orrery runs show ${run.id}`] }
  output.print(...reasonLines({ what: 'run', name: run.id, state: run.state }, run.reason, options))
  if (open.length < 2) return
  const rows = open
    .slice(0, STEPS_SHOWN)
    .map((s) => [
      { text: printableLine(s.name) },
      { text: s.state },
      { text: s.reason?.code ?? '' },
      { text: printableLine(s.reason?.message ?? '') },
    ])
  const columns = ['STEP', 'STATE', 'WAITS FOR', 'WHY'].map((title) => ({ title }))
  output.print([])
  output.printTable(columns, rows)
  if (open.length > STEPS_SHOWN) output.remark(`… ${open.length - STEPS_SHOWN} more: orrery runs show ${run.id}`)
}

function explainStep(deps: CliDeps, output: Output, run: RunView, step: StepView): void {
  if (output.isData) {
    const { name, state, reason, failure } = step
    output.printData({ run: run.id, step: name, state, reason, failure })
    return
  }
  const { width } = output
  if (step.reason) {
    const next = [`orrery runs show ${run.id}`]
    const options = { width, nowMs: deps.clock.now(), next }
    output.print(...reasonLines({ what: 'step', name: step.name, state: step.state }, step.reason, options))
  } else if (step.failure) output.print(...stepFailureLines(run, step, width))
  else output.print([span(`step ${printableLine(step.name)} `), span(step.state, 'bold')])
}
