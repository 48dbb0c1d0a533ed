import { formatDuration } from '../../base/duration.ts'
import { checkInputs } from '../../domain/inputs.ts'
import { type PlannedExtras, type PlannedStep, planOf } from '../../domain/plan.ts'
import type { CliDeps } from '../deps.ts'
import { failureLines } from '../failure-text.ts'
import { readInputs, readText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { readRunManifest } from '../run-manifest.ts'
import { readManifests } from '../resource-files.ts'
import type { Cell } from '../table.ts'
import { printableLine, span, truncate } from '../terminal-text.ts'

export interface PlanFlags {
  workflow?: string
  filename?: string[]
  input?: string[]
  inputs?: string
}

/** `orrery plan FILE`: what a run would do, without a server and without running anything. */
export async function plan(deps: CliDeps, output: Output, file: string, flags: PlanFlags): Promise<number> {
  const text = file === '-' ? await deps.stdin.readText() : await readText(deps, file, 'the manifest')
  const shownAs = file === '-' ? 'stdin' : file
  output.sources[shownAs] = text
  const paths = flags.filename ?? []
  const more = paths.length === 0 ? [] : await readManifests(deps, output, { paths, recursive: false, namespace: null })
  const { definition, remarks } = readRunManifest(text, { file: shownAs, workflow: flags.workflow, more })
  const given = await readInputs(deps, { inputs: flags.inputs, input: flags.input ?? [], schema: definition.inputs })
  const planned = planOf(definition, checkInputs(definition, given))
  const failing = planned.steps.filter((step) => step.verdict.is === 'fails')
  output.remark(...remarks.map((remark) => `warning: ${remark}`))
  if (output.isData) {
    output.printData(planned)
    return failing.length > 0 ? 1 : 0
  }
  const { width } = output
  const facts = [
    planned.steps.length === 1 ? '1 step' : `${planned.steps.length} steps`,
    ...(planned.timeoutMs === null ? [] : [`at most ${formatDuration(planned.timeoutMs)}`]),
    ...(planned.failFast ? ['the first failure stops the run'] : []),
  ]
  output.print([span(`${planned.namespace}/${planned.workflow}`, 'bold'), span(`  ${facts.join(', ')}`, 'dim')])
  for (const [name, value] of Object.entries(planned.inputs))
    output.print([
      span(`  ${printableLine(name)} = `, 'dim'),
      span(truncate(printableLine(JSON.stringify(value)), Math.max(20, width - name.length - 5))),
    ])
  output.print([])
  const columns = ['STAGE', 'STEP', 'KIND', 'NEEDS', 'RUNS', 'WHERE'].map((title) => ({ title }))
  output.printTable(columns, planned.steps.map(cellsOf))
  const noted = planned.steps.flatMap(({ name, extras }) => (extras ? [{ name, text: textOfExtras(extras) }] : []))
  if (noted.length > 0) output.print([])
  for (const { name, text } of noted)
    output.print([span(`  ${printableLine(name)}: `), span(printableLine(text), 'dim')])
  for (const { name, verdict } of failing)
    if (verdict.is === 'fails')
      output.print([], [span(`step ${printableLine(name)} would fail`)], ...failureLines(verdict.failure, { width }))
  return failing.length > 0 ? 1 : 0
}

function textOfExtras({ setUp, tearDown, output, exportsEnv, envFrom, files }: PlannedExtras): string {
  const commands = (n: number): string => (n === 1 ? 'one command' : `${n} commands`)
  return [
    ...(setUp === undefined ? [] : [`${commands(setUp)} before it`]),
    ...(tearDown === undefined ? [] : [`${commands(tearDown)} after it, whatever happens`]),
    ...(output === undefined
      ? []
      : [`its output is ${{ stdout: 'what it prints', artifacts: 'the list of its files' }[output] ?? output}`]),
    ...(files ? [`files from ${files.join(', ')}`] : []),
    ...(exportsEnv ? ['hands on variables'] : []),
    ...(envFrom ? [`variables from ${envFrom.join(', ')}`] : []),
  ].join('; ')
}

function cellsOf(step: PlannedStep): Cell[] {
  const needs = step.need === null ? '' : `${step.need} of `
  return [
    { text: String(step.stage) },
    { text: printableLine(step.name) },
    { text: step.kind },
    { text: step.needs.length === 0 ? '-' : `${needs}${printableLine(step.needs.join(', '))}` },
    runsOf(step),
    { text: whereOf(step), style: 'dim' },
  ]
}

function runsOf({ verdict, activations, turns }: PlannedStep): Cell {
  const times =
    turns !== null
      ? turnsText(turns)
      : activations === null
        ? ''
        : activations === 'open'
          ? ', as often as the run says'
          : `, ${activations} times`
  switch (verdict.is) {
    case 'runs':
      return { text: `yes${times}`, style: 'good' }
    case 'skipped':
      return { text: `skipped: ${printableLine(verdict.because)}`, style: 'dim' }
    case 'open':
      return { text: `depends on ${verdict.on.map(printableLine).join(', ')}${times}`, style: 'warn' }
    case 'fails':
      return { text: 'fails', style: 'bad' }
  }
}

/** How often a step may run that takes turns, and what may follow it. */
function turnsText({ max, next }: NonNullable<PlannedStep['turns']>): string {
  const ways = next.map(({ step, if: condition }) => `${step}${condition === null ? '' : ` if ${condition}`}`)
  return printableLine(`, at most ${max} turns${ways.length > 0 ? `, then ${ways.join(', ')}` : ''}`)
}

function whereOf({ requires }: PlannedStep): string {
  if (requires === null) return 'no worker'
  const labels = Object.entries(requires.labels).map(([key, value]) => `${key}=${value}`)
  const what =
    requires.module !== null
      ? `a worker with module ${requires.module}`
      : requires.backend === 'agent'
        ? 'any worker with agents'
        : 'any worker with commands'
  return printableLine([what, ...labels].join(', '))
}
