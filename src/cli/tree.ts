import { formatDuration } from '../base/index.ts'
import type { RunState, StepState } from '../contract/api-types.ts'
import { type FanProgress, isEnded, type RunProgress, standingOf, type StepProgress } from './progress.ts'
import {
  displayWidth,
  fitLine,
  type Line,
  padEnd,
  padStart,
  printableLine,
  span,
  type Style,
  truncate,
} from './terminal-text.ts'

export interface TreeOptions {
  nowMs: number
  width: number
  /** Lines that the tree may take, the head included. */
  height: number
}

const SYMBOLS: Record<StepState, [string, Style]> = {
  pending: ['·', 'dim'],
  queued: ['○', 'dim'],
  running: ['●', 'accent'],
  waiting: ['◌', 'warn'],
  succeeded: ['✓', 'good'],
  failed: ['✗', 'bad'],
  skipped: ['↷', 'dim'],
  blocked: ['⊘', 'warn'],
  canceled: ['■', 'warn'],
}
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const SPIN_MS = 90
const NAME_MAX = 32
const STATE_WIDTH = 'succeeded'.length
const TOOK_WIDTH = 7
/** Activations of one forEach that get a line of their own. */
const FAN_LINES = 5

interface Row {
  /** What joins it to the line above. */
  branch: string
  name: string
  state: StepState
  took: string
  detail: string
  /** Lower is kept longer when the tree is folded. */
  rank: number
}

/** A run as a tree: one line a step, what matters of a forEach below it; folded to the height, cut to the width. Pure. */
export function treeLines(progress: RunProgress, options: TreeOptions): Line[] {
  const rows = rowsOf(progress, options)
  const room = Math.max(1, options.height - 1)
  const shown = rows.length <= room ? rows : foldRows(rows, room - 1)
  const nameWidth = Math.min(
    NAME_MAX,
    Math.max(0, ...shown.map((row) => displayWidth(row.branch) + displayWidth(row.name))),
  )
  const lines = [headLine(progress, options), ...shown.map((row) => rowLine(row, nameWidth, options.nowMs))]
  if (shown.length < rows.length) lines.push(foldLine(rows, shown))
  return lines.map((line) => fitLine(line, options.width))
}

function headLine(progress: RunProgress, options: TreeOptions): Line {
  const state = progress.canceling && !isRunEnded(progress.state) ? 'canceling' : progress.state
  const ms = (progress.endedAtMs ?? options.nowMs) - progress.createdAtMs
  return [
    span(printableLine(progress.workflow), 'bold'),
    span(`  ${progress.id}  `, 'dim'),
    span(state, styleOfRun(state)),
    span(`  ${formatDuration(Math.max(0, ms))}`),
  ]
}

const isRunEnded = (state: RunState): boolean => state === 'succeeded' || state === 'failed' || state === 'canceled'

export function styleOfRun(state: string): Style {
  if (state === 'succeeded') return 'good'
  if (state === 'failed') return 'bad'
  return state === 'canceled' || state === 'canceling' || state === 'waiting' ? 'warn' : 'accent'
}

function rowsOf(progress: RunProgress, options: TreeOptions): Row[] {
  const steps = [...progress.steps.values()]
  return steps.flatMap((step, i) => {
    const isLast = i === steps.length - 1
    const row: Row = {
      branch: isLast ? '└─ ' : '├─ ',
      name: printableLine(step.name),
      state: step.state,
      took: tookOf(step, options.nowMs),
      detail: [step.fan ? fanText(step.fan) : '', printableLine(step.detail ?? '')].filter(Boolean).join(' · '),
      rank: rankOf(step),
    }
    return [row, ...(step.fan ? fanRows(step.fan, isLast ? '   ' : '│  ', options.nowMs) : [])]
  })
}

function fanText(fan: FanProgress): string {
  const { counts } = fan
  const ended = counts.succeeded + counts.failed + counts.skipped + counts.blocked + counts.canceled
  const parts = [`${ended}/${fan.total}`]
  for (const state of ['running', 'waiting', 'failed', 'blocked', 'canceled'] as const) {
    if (counts[state] > 0) parts.push(`${counts[state]} ${state}`)
  }
  return parts.join(', ')
}

function fanRows(fan: FanProgress, indent: string, nowMs: number): Row[] {
  const notable = [...fan.notable].flatMap((name) => fan.activations.get(name) ?? [])
  // What failed is worth more than what merely runs; among equals the order of the list stays.
  const shown = notable.toSorted((a, b) => rankOf(a) - rankOf(b)).slice(0, FAN_LINES)
  return shown.map((step, i) => ({
    branch: `${indent}${i === shown.length - 1 ? '└─ ' : '├─ '}`,
    name: printableLine(step.name.slice(step.name.indexOf('['))),
    state: step.state,
    took: tookOf(step, nowMs),
    detail: printableLine(step.detail ?? ''),
    rank: rankOf(step) + 4,
  }))
}

function tookOf(step: StepProgress, nowMs: number): string {
  if (step.startedAtMs === null) return ''
  const end = step.endedAtMs ?? (step.state === 'running' ? nowMs : null)
  return end === null ? '' : formatDuration(Math.max(0, end - step.startedAtMs))
}

function rankOf(step: StepProgress): number {
  if (step.state === 'failed') return 0
  if (standingOf(step.state) === 'active') return 1
  if (step.state === 'queued') return 2
  return isEnded(step.state) ? 4 : 3
}

function rowLine(row: Row, nameWidth: number, nowMs: number): Line {
  const [still, style] = SYMBOLS[row.state]
  const symbol = row.state === 'running' ? (SPINNER[Math.floor(nowMs / SPIN_MS) % SPINNER.length] ?? still) : still
  const room = nameWidth - displayWidth(row.branch)
  return [
    span(row.branch, 'dim'),
    span(symbol, style),
    span(` ${padEnd(truncate(row.name, room), room)}  `),
    span(padEnd(row.state, STATE_WIDTH), style),
    span(`  ${padStart(row.took, TOOK_WIDTH)}`),
    ...(row.detail === '' ? [] : [span(`  ${row.detail}`, 'dim')]),
  ]
}

/** The `room` rows that matter most, in their order; of equals the later ones, because that is where a run is at. */
function foldRows(rows: Row[], room: number): Row[] {
  const order = rows.map((row, at) => ({ row, at })).toSorted((a, b) => a.row.rank - b.row.rank || b.at - a.at)
  const kept = order.slice(0, Math.max(0, room)).toSorted((a, b) => a.at - b.at)
  return kept.map(({ row }) => row)
}

function foldLine(rows: Row[], shown: Row[]): Line {
  const kept = new Set(shown)
  const counts = new Map<string, number>()
  for (const row of rows) if (!kept.has(row)) counts.set(row.state, (counts.get(row.state) ?? 0) + 1)
  const text = [...counts].map(([state, count]) => `${count} ${state}`).join(', ')
  return [span(`   … ${rows.length - shown.length} more: ${text}`, 'dim')]
}
