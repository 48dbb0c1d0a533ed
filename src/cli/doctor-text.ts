import type { Json, JsonObject } from '../base/index.ts'
import type { DoctorRow } from '../contract/api-types.ts'
import { type Line, padEnd, printableLine, span, type Style, truncate, wrap } from './terminal-text.ts'

const MARKS: Record<DoctorRow['status'], [string, Style]> = {
  pass: ['✓', 'good'],
  warn: ['!', 'warn'],
  fail: ['✗', 'bad'],
}
const CHECK_WIDTH = 10
const INDENT = ' '.repeat(CHECK_WIDTH + 4)

/** Rows for people: one line for what is well; code, evidence and remedy for what is not; the sum at the end. Pure. */
export function doctorLines(rows: readonly DoctorRow[], { width }: { width: number }): Line[] {
  const count = (status: DoctorRow['status']) => rows.filter((row) => row.status === status).length
  const [bad, odd] = [count('fail'), count('warn')]
  const sum =
    bad + odd === 0
      ? [span('all is well', 'good')]
      : [
          span(`${bad} broken`, bad > 0 ? 'bad' : undefined),
          span(', '),
          span(`${odd} to look at`, odd > 0 ? 'warn' : undefined),
          span(`, ${count('pass')} well`),
        ]
  return [...rows.flatMap((row) => rowLines(row, width)), [], sum]
}

function rowLines(row: DoctorRow, width: number): Line[] {
  const [mark, style] = MARKS[row.status]
  const room = Math.max(20, width - INDENT.length)
  const head: Line = [
    span(`${mark} `, style),
    span(padEnd(row.check, CHECK_WIDTH + 2), 'dim'),
    span(truncate(printableLine(row.subject), room), 'bold'),
  ]
  const texts = wrap(printableLine(row.message), room)
  if (row.status === 'pass') {
    const text = `: ${printableLine(row.message)}`
    return [[...head, span(truncate(text, Math.max(0, room - row.subject.length)))]]
  }
  return [
    [...head, span(`  ${row.code ?? ''}`, style)],
    ...texts.map((text): Line => [span(INDENT), span(text)]),
    ...evidenceLines(row.evidence, room),
    ...wrap(printableLine(row.remedy ?? ''), room - 2).map((text, i): Line => [
      span(INDENT),
      span(i === 0 ? '→ ' : '  ', 'accent'),
      span(text),
    ]),
    ...(row.code === null ? [] : [[span(INDENT), span(`  orrery explain ${row.code}`, 'accent')] satisfies Line]),
  ]
}

const evidenceLines = (evidence: JsonObject, room: number): Line[] =>
  Object.entries(evidence)
    .filter(([, value]) => value !== null && value !== '')
    .map(([key, value]): Line => [span(INDENT), span(truncate(`${key}  ${textOf(value)}`, room), 'dim')])

const textOf = (value: Json): string => printableLine(typeof value === 'string' ? value : JSON.stringify(value))
