import { agentLines } from '../agent-lines.ts'
import { formatDuration, type Json, nearest } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { LogLine, RunState, RunSummary, RunView, StepView } from '../../contract/api-types.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CliDeps } from '../deps.ts'
import { failureLines } from '../failure-text.ts'
import { parseJson, readText } from '../inputs.ts'
import { instantOf } from '../instant.ts'
import { Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { addActivation, progressOf } from '../progress.ts'
import { isCalm, stepReasonLines } from '../reason-text.ts'
import { resolveRunId } from '../run-ids.ts'
import { findFailedSteps, outputsOf, stepFailureLines } from '../run-report.ts'
import { labelsText } from '../resource-text.ts'
import { type Line, padEnd, printable, printableLine, span, truncate } from '../terminal-text.ts'
import { styleOfRun, treeLines } from '../tree.ts'
import { usageFailure } from '../usage.ts'

export interface ServerFlags {
  server?: string
  token?: string
  context?: string
  ca?: string
}

const RUN_STATES: readonly RunState[] = ['pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled']
const SHOWN_FAILURES = 10
const SHOWN_REASONS = 10
const TREE_HEIGHT = 2_000
const NAMED_STEPS = 8

/** The server that the flags name, or the one that is found without them. */
export const connect = (deps: CliDeps, flags: ServerFlags): Promise<Client> =>
  deps.connect({
    ...(flags.server === undefined ? {} : { server: flags.server }),
    ...(flags.token === undefined ? {} : { token: flags.token }),
    ...(flags.context === undefined ? {} : { context: flags.context }),
    ...(flags.ca === undefined ? {} : { ca: flags.ca }),
  })

export interface ListFlags extends ServerFlags {
  state?: string[]
  workflow?: string
  namespace?: string
  selector?: string
  since?: string
  cursor?: string
  limit: string
}

export async function listRuns(deps: CliDeps, output: Output, flags: ListFlags): Promise<number> {
  const states = (flags.state ?? []).flatMap((text) => text.split(',')).map(parseState)
  const limit = Number(flags.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.pageMax) {
    throw usageFailure(`--limit ${flags.limit} is not a whole number from 1 to ${LIMITS.pageMax}`)
  }
  const { selector, since, cursor } = flags
  const from = since === undefined ? undefined : new Date(instantOf(deps, since)).toISOString()
  const client = await connect(deps, flags)
  const page = await client.listRuns({
    limit,
    ...(states.length > 0 ? { states } : {}),
    ...(flags.workflow === undefined ? {} : { workflow: flags.workflow }),
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
    ...(selector === undefined ? {} : { labelSelector: selector }),
    ...(from === undefined ? {} : { since: from }),
    ...(cursor === undefined ? {} : { cursor }),
  })
  if (output.isData) {
    output.printData({ runs: page.items, next: page.next })
    return 0
  }
  if (page.items.length === 0) {
    const filters = [flags.workflow, flags.namespace, selector, since, cursor]
    const isFiltered = states.length > 0 || filters.some((filter) => filter !== undefined)
    output.remark(
      isFiltered
        ? 'No run fits these filters. orrery runs list shows all.'
        : `No runs yet at ${client.address}. Start one: orrery run FILE --server ${client.address}`,
    )
    return 0
  }
  const columns = [
    { title: 'ID', isName: true },
    { title: 'NAMESPACE', wide: true },
    { title: 'WORKFLOW' },
    { title: 'STATE' },
    { title: 'STEPS', align: 'right' as const },
    { title: 'CREATED' },
    { title: 'TOOK', align: 'right' as const },
    { title: 'FAILURE' },
    { title: 'STARTED', wide: true },
    { title: 'LABELS', wide: true },
  ]
  const now = deps.clock.now()
  output.printTable(
    columns,
    page.items.map((run) => runRow(run, now)),
  )
  if (page.next !== null) output.remark(`Older runs are not shown: --cursor ${page.next}`)
  return 0
}

function parseState(text: string): RunState {
  const state = RUN_STATES.find((candidate) => candidate === text)
  if (state) return state
  const near = nearest(text, RUN_STATES)
  throw usageFailure(
    `--state ${text} is no state of a run`,
    `${near ? `Did you mean ${near}? ` : ''}States are ${RUN_STATES.join(', ')}.`,
  )
}

function runRow(run: RunSummary, nowMs: number) {
  const state = stateText(run)
  const began = Date.parse(run.startedAt ?? run.createdAt)
  const ended = run.endedAt ? Date.parse(run.endedAt) : nowMs
  return [
    { text: run.id },
    { text: printableLine(run.namespace) },
    { text: printableLine(run.workflow) },
    { text: state, style: styleOfRun(state) },
    { text: `${run.steps.total - run.steps.open}/${run.steps.total}` },
    { text: `${formatDuration(Math.max(0, nowMs - Date.parse(run.createdAt)))} ago` },
    { text: formatDuration(Math.max(0, ended - began)) },
    { text: run.failure?.code ?? '' },
    { text: run.startedAt ?? '-' },
    { text: printableLine(labelsText(run.labels)) || '-' },
  ]
}

const stateText = (run: RunSummary): string =>
  run.canceling && ['pending', 'running', 'waiting'].includes(run.state) ? 'canceling' : run.state

export async function showRun(deps: CliDeps, output: Output, id: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const run = await client.getRun(await resolveRunId(client, id))
  if (output.isData) {
    output.printData(run)
    return 0
  }
  const failed = await findFailedSteps(client, run, SHOWN_FAILURES)
  const progress = progressOf(run)
  for (const step of failed) if (step.name.includes('[')) addActivation(progress, step)
  const { width } = output
  const tree = treeLines(progress, { nowMs: deps.clock.now(), width, height: TREE_HEIGHT })
  output.print(...tree)
  const facts = [
    ...(run.namespace === 'default' ? [] : [`namespace ${run.namespace}`]),
    ...(run.epoch > 1 ? [`retried ${run.epoch - 1} time${run.epoch === 2 ? '' : 's'}`] : []),
    ...Object.entries(run.labels).map(([key, value]) => `${key}=${value}`),
  ]
  if (facts.length > 0) output.print([span(truncate(printableLine(facts.join('  ')), width), 'dim')])
  if (run.stalled) output.print([], ...failureLines(run.stalled, { width }))
  const waiting = run.stepList.filter((step) => step.reason && !isCalm(step.reason))
  for (const step of waiting.slice(0, SHOWN_REASONS)) {
    output.print([], ...stepReasonLines(run.id, step, { width, nowMs: deps.clock.now() }))
  }
  if (waiting.length > SHOWN_REASONS)
    output.remark(`… ${waiting.length - SHOWN_REASONS} more steps wait: orrery explain run/${run.id}`)
  if (run.reason && waiting.length === 0) output.print([], whyLine(run, width))
  for (const step of failed) output.print([], ...stepFailureLines(run, step, width))
  if (failed.length === 0 && run.failure && run.state === 'failed') {
    output.print([], ...failureLines(run.failure, { width, next: [`orrery explain ${run.failure.code}`] }))
  }
  if (run.state === 'failed' || run.state === 'canceled') {
    output.print([], [span('retry what did not succeed: '), span(`orrery runs retry ${run.id}`, 'accent')])
  }
  const outputs = Object.entries(outputsOf(run))
  if (run.state === 'succeeded' && outputs.length > 0) {
    output.print([])
    for (const [name, value] of outputs) output.print(outputLine(name, value, width))
  }
  return 0
}

/** A run that goes on as it should: in one line what it is at. */
const whyLine = (run: RunView, width: number): Line => [
  span('◌ ', 'warn'),
  span(truncate(printableLine(run.reason?.message ?? ''), width - 2), 'dim'),
]

const outputLine = (name: string, value: Json, width: number): Line => [
  span(`${printableLine(name)}  `, 'dim'),
  span(truncate(printableLine(JSON.stringify(value)), width - name.length - 2)),
]

export interface LogFlags extends ServerFlags {
  follow?: boolean
  step?: string
}

export async function showLogs(deps: CliDeps, output: Output, id: string, flags: LogFlags): Promise<number> {
  const client = await connect(deps, flags)
  const runId = await resolveRunId(client, id)
  const interrupts = new Interrupts(deps)
  const stop = new AbortController()
  void interrupts.first.then(() => stop.abort())
  let isEmpty = true
  try {
    const lines = client.followLogs(runId, {
      follow: flags.follow === true,
      signal: stop.signal,
      ...(flags.step === undefined ? {} : { step: flags.step }),
    })
    for await (const line of lines) {
      isEmpty = false
      if (output.isData) output.printData(line)
      else output.print(...logLines(line))
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error // leaving by a signal is an ordinary end of following
  } finally {
    interrupts.stop()
  }
  if (isEmpty && !output.isData && !stop.signal.aborted) {
    const of = flags.step === undefined ? runId : `step ${flags.step} of ${runId}`
    output.remark(`No log lines of ${of}${flags.follow ? '' : ' yet; -f waits for them'}.`)
  }
  return 0
}

function logLines(line: LogLine): Line[] {
  const head = `${line.at.slice(11, 23)}  ${padEnd(printableLine(line.step), 16)} `
  if (line.stream === 'agent')
    return agentLines(line.text).map((text) => [span(head, 'dim'), span('│ ', 'accent'), ...text])
  const style = line.stream === 'stdout' ? undefined : line.stream === 'stderr' ? 'warn' : 'dim'
  return printable(line.text.replace(/\n$/, ''))
    .split('\n')
    .map((text) => [span(head, 'dim'), span('│ ', style), span(text, line.stream === 'system' ? 'dim' : undefined)])
}

export async function cancelRun(deps: CliDeps, output: Output, id: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const run = await client.cancelRun(await resolveRunId(client, id))
  if (output.isData) output.printData(run)
  else if (run.state === 'canceled') output.print(`${run.id} is canceled`)
  else {
    output.print(`${run.id} is canceling: idle steps stop at once, running ones when their worker confirms`)
    output.remark(`  orrery runs show ${run.id}`)
  }
  return 0
}

export interface RetryFlags extends ServerFlags {
  step?: string
}

export async function retryRun(deps: CliDeps, output: Output, id: string, flags: RetryFlags): Promise<number> {
  const client = await connect(deps, flags)
  const runId = await resolveRunId(client, id)
  if (flags.step !== undefined) {
    const run = await client.retryStep(runId, flags.step)
    if (output.isData) output.printData({ run, step: flags.step })
    else {
      output.print([span(`${printableLine(flags.step)} of ${run.id} `), span('runs again', 'accent')])
      output.remark(`  orrery runs show ${run.id}`)
    }
    return 0
  }
  // Read first: afterwards the steps are queued already and no longer tell which of them had failed.
  const before = await client.getRun(runId)
  const run = await client.retryRun(runId)
  const names = (states: StepView['state'][]) =>
    before.stepList.filter((step) => states.includes(step.state)).map((step) => step.name)
  const again = names(['failed', 'blocked', 'canceled'])
  const kept = names(['succeeded', 'skipped'])
  if (output.isData) {
    output.printData({ run, runsAgain: again, kept })
    return 0
  }
  output.print([span(`${run.id} `), span('runs again', 'accent'), span(`  attempt ${run.epoch} at the whole`, 'dim')])
  output.print(namesLine('again', again), namesLine('kept', kept))
  output.remark(`  orrery runs show ${run.id}`)
  return 0
}

function namesLine(label: string, names: string[]): Line {
  const shown = names.slice(0, NAMED_STEPS).map(printableLine).join(', ') || 'none'
  const more = names.length > NAMED_STEPS ? `, … ${names.length - NAMED_STEPS} more` : ''
  return [span(`  ${label.padEnd(6)}`, 'dim'), span(`${shown}${more}`)]
}

export interface SkipFlags extends ServerFlags {
  output: string
}

export async function skipStep(
  deps: CliDeps,
  output: Output,
  target: { id: string; step: string },
  flags: SkipFlags,
): Promise<number> {
  const given = flags.output.startsWith('@') ? await readText(deps, flags.output.slice(1), 'the output') : flags.output
  const parsed = parseJson(given)
  if ('wrong' in parsed) {
    throw usageFailure(
      `--output is not JSON: ${parsed.wrong.message}`,
      `Write one JSON value, a text in its own quotes: --output '"text"'. @FILE reads it from a file.`,
    )
  }
  const client = await connect(deps, flags)
  const run = await client.skipStep(await resolveRunId(client, target.id), target.step, parsed.json)
  if (output.isData) output.printData(run)
  else {
    const value = truncate(printableLine(JSON.stringify(parsed.json)), 60)
    output.print(`${printableLine(target.step)} is skipped with the output ${value}; ${run.id} is ${stateText(run)}`)
  }
  return 0
}

export async function listWorkers(deps: CliDeps, output: Output, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const workers = await client.listWorkers()
  if (output.isData) {
    output.printData({ workers })
    return 0
  }
  if (workers.length === 0) {
    output.remark(`No worker is known at ${client.address}. Start one: orrery worker --server ${client.address}`)
    return 0
  }
  const columns = [
    { title: 'WORKER', isName: true },
    ...['STATE', 'BUSY', 'HEARTBEAT', 'MODULES', 'LABELS', 'VERSION'].map((title) => ({ title })),
    { title: 'BACKENDS', wide: true },
    { title: 'CLOCK', wide: true },
    { title: 'SESSION', wide: true },
  ]
  const rows = workers.map((worker) => [
    { text: printableLine(worker.worker) },
    { text: worker.state, style: worker.state === 'live' ? ('good' as const) : ('warn' as const) },
    { text: `${worker.held}/${worker.capacity}` },
    { text: `${formatDuration(Math.max(0, worker.heartbeatAgoMs))} ago` },
    { text: printableLine(worker.modules.join(',')) || '-' },
    { text: printableLine(labelsText(worker.labels)) || '-' },
    { text: printableLine(worker.version) },
    { text: printableLine(worker.backends.join(',')) || '-' },
    { text: `${worker.clockSkewMs} ms` },
    { text: worker.session },
  ])
  output.printTable(columns, rows)
  if (output.format === 'name') return 0
  for (const problem of workers.flatMap((worker) => worker.problems)) {
    output.print([], ...failureLines(problem, { width: output.width, next: [`orrery explain ${problem.code}`] }))
  }
  return 0
}
