import { formatDuration, type Json, type JsonObject } from '../base/index.ts'
import type { StepView } from '../contract/api-types.ts'
import { isWaitCode, type Reason } from '../domain/reasons/reason.ts'
import { failureLines } from './failure-text.ts'
import { tableLines } from './table.ts'
import { type Line, printableLine, span } from './terminal-text.ts'

/** Codes that need no words of their own under a run: the tree says as much. */
const CALM = new Set(['running', 'starting', 'queued', 'decision', 'dependency', 'activations', 'max_parallel'])

export const isCalm = (reason: Pick<Reason, 'code'>): boolean => CALM.has(reason.code)

/** Why something does not go on, for people: what, since when, until when, what was found, what to do, what to run next. Pure. */
export function reasonLines(
  head: { what: string; name: string; state: string },
  reason: Reason,
  options: { width: number; nowMs: number; next?: string[] },
): Line[] {
  const { tables, rest } = tablesOf(reason.evidence)
  const since = reason.since === null ? null : Date.parse(reason.since)
  const ago = since === null ? '' : `  for ${formatDuration(Math.max(0, options.nowMs - since))}`
  const record = { ...reason, evidence: { ...rest, ...(reason.until ? { until: reason.until } : {}) } }
  const [title, message, ...more] = failureLines(record, { width: options.width, next: options.next ?? [] })
  const advice = more.findIndex((line) => line.some((part) => part.text.startsWith('  →')))
  const facts = advice < 0 ? more : more.slice(0, advice)
  const ending = advice < 0 ? [] : more.slice(advice)
  return [
    [span(`${head.what} `), span(printableLine(head.name), 'bold'), span(` is ${head.state}`), span(ago, 'dim')],
    ...(title ? [title] : []),
    ...(message ? [message] : []),
    ...facts,
    ...tables.flatMap((table) => indent(tableLines(table.columns, table.rows, { width: options.width - 2 }))),
    ...ending,
  ]
}

/** Of a step: with the commands that tell more. `isEmbedded`: the run is on no server that another command could ask. */
export function stepReasonLines(
  runId: string,
  step: StepView,
  { isEmbedded = false, ...options }: { width: number; nowMs: number; isEmbedded?: boolean },
): Line[] {
  if (!step.reason) return []
  const explain = `orrery explain ${step.reason.code}`
  const asking = isEmbedded ? [] : [`orrery explain step/${runId}/${printableLine(step.name)}`]
  const next = isWaitCode(step.reason.code) ? [] : [...asking, explain]
  return reasonLines({ what: 'step', name: step.name, state: step.state }, step.reason, { ...options, next })
}

interface Table {
  columns: { title: string }[]
  rows: { text: string; style?: 'good' | 'bad' | 'warn' }[][]
}

const indent = (lines: Line[]): Line[] => lines.map((line) => [span('  '), ...line])

/** What is better read as a table is taken out of the evidence. */
function tablesOf(evidence: JsonObject): { tables: Table[]; rest: JsonObject } {
  const { requirements, workers, nearMisses, holders, needs, ...rest } = evidence
  const tables: Table[] = []
  const list = objectsOf(workers)
  if (Array.isArray(requirements) && list) {
    tables.push(requirementTable(requirements.map(String), list))
    return { tables, rest: { ...rest, ...(nearMisses === undefined ? {} : { nearMiss: nearText(nearMisses) }) } }
  }
  const back: JsonObject = { ...rest }
  if (list?.every((w) => 'lastHeartbeatMs' in w)) tables.push(workerTable(list))
  else if (workers !== undefined) back['workers'] = workers
  const held = objectsOf(holders)
  if (held) tables.push(holderTable(held))
  else if (holders !== undefined) back['holders'] = holders
  const open = objectsOf(needs)
  if (open) tables.push(plainTable(open, ['step', 'state']))
  else if (needs !== undefined) back['needs'] = needs
  return { tables: tables.filter((t) => t.rows.length > 0), rest: back }
}

function objectsOf(value: Json | undefined): JsonObject[] | null {
  if (!Array.isArray(value)) return null
  const objects = value.flatMap((item) =>
    item !== null && typeof item === 'object' && !Array.isArray(item) ? [item] : [],
  )
  return objects.length === value.length ? objects : null
}

const textOf = (value: Json | undefined): string =>
  value === undefined || value === null ? '' : printableLine(typeof value === 'string' ? value : JSON.stringify(value))

/** Worker × requirement: what each has, and what it has instead. */
function requirementTable(requirements: string[], workers: JsonObject[]): Table {
  // A requirement that everybody meets explains nothing.
  const lacking = (worker: JsonObject): string[] => (Array.isArray(worker['lacks']) ? worker['lacks'].map(String) : [])
  const shown = requirements.filter((r) => workers.some((w) => lacking(w).includes(r)))
  return {
    columns: [{ title: 'WORKER' }, { title: 'STATE' }, ...shown.map((title) => ({ title }))],
    rows: workers.map((worker) => {
      const instead = worker['has']
      const cells = shown.map((requirement) => {
        if (!lacking(worker).includes(requirement)) return { text: 'yes', style: 'good' as const }
        const found =
          instead !== null && typeof instead === 'object' && !Array.isArray(instead) ? instead[requirement] : undefined
        return found === undefined
          ? { text: 'no', style: 'bad' as const }
          : { text: `has ${textOf(found)}`, style: 'warn' as const }
      })
      return [{ text: textOf(worker['worker']) }, { text: textOf(worker['state']) }, ...cells]
    }),
  }
}

function nearText(misses: Json): string {
  const [first] = objectsOf(misses) ?? []
  if (!first) return ''
  const differs = first['differs'] === 'case' ? 'the letter case differs' : 'the spelling differs'
  return `${textOf(first['worker'])} has ${textOf(first['has'])}, wanted is ${textOf(first['wanted'])}: ${differs}`
}

const duration = (value: Json | undefined): string =>
  typeof value === 'number' ? formatDuration(Math.max(0, value)) : ''

function workerTable(workers: JsonObject[]): Table {
  return {
    columns: ['WORKER', 'STATE', 'BUSY', 'HEARTBEAT'].map((title) => ({ title })),
    rows: workers.map((w) => [
      { text: textOf(w['worker']) },
      { text: textOf(w['state']), style: w['state'] === 'live' ? 'good' : 'warn' },
      { text: `${textOf(w['held'])}/${textOf(w['capacity'])}` },
      { text: `${duration(w['lastHeartbeatMs'])} ago` },
    ]),
  }
}

function holderTable(holders: JsonObject[]): Table {
  return {
    columns: ['HELD BY STEP', 'WORKER', 'FOR'].map((title) => ({ title })),
    rows: holders.map((h) => [
      { text: textOf(h['step']) },
      { text: textOf(h['worker']) },
      { text: duration(h['forMs']) },
    ]),
  }
}

const plainTable = (items: JsonObject[], keys: string[]): Table => ({
  columns: keys.map((key) => ({ title: key.toUpperCase() })),
  rows: items.map((item) => keys.map((key) => ({ text: textOf(item[key]) }))),
})
