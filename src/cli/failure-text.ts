import type { Json, JsonObject } from '../base/index.ts'
import type { FailureRecord, Problem } from '../domain/failure.ts'
import { FAILURES, isFailureCode } from '../domain/failures.ts'
import { isWaitCode, WAITS } from '../domain/reasons/reason.ts'
import { displayWidth, type Line, padEnd, printable, printableLine, span, truncate, wrap } from './terminal-text.ts'

export interface FailureTextOptions {
  width: number
  /** Text of files by name, for excerpts of the places that problems name. */
  sources?: Record<string, string>
  /** Commands that help from here. */
  next?: string[]
}

const CAUSES_MAX = 8
const PROBLEMS_MAX = 50
const TAIL_LINES = 20
const ITEMS_MAX = 8

/** A failure, or a reason for waiting that is none. */
type Told = Omit<FailureRecord, 'code'> & { code: string }

const titleOf = (code: string): string =>
  isFailureCode(code) ? FAILURES[code].title : isWaitCode(code) ? WAITS[code] : ''

/** A failure for people: code, message, causes, evidence, what to do, what to run next. Pure. */
export function failureLines(told: Told, options: FailureTextOptions): Line[] {
  const width = Math.max(40, options.width)
  const lines: Line[] = [
    [
      isWaitCode(told.code) ? span('◌ ', 'warn') : span('✗ ', 'bad'),
      span(told.code, 'bold'),
      span(`  ${titleOf(told.code)}`),
    ],
    ...textLines('  ', told.message, width),
    ...causeLines(told.cause, width),
  ]
  const { problems, ...evidence } = told.evidence ?? {}
  if (Array.isArray(problems)) lines.push(...problemLines(problems, { ...options, width }))
  else if (problems !== undefined) lines.push(...evidenceLines({ problems }, width))
  lines.push(...evidenceLines(evidence, width))
  const advice = wrap(printableLine(told.remediation), width - 4)
  lines.push(...advice.map((text, i): Line => [span(i === 0 ? '  → ' : '    ', 'accent'), span(text)]))
  for (const command of options.next ?? []) lines.push([span('    '), span(command, 'accent')])
  return lines
}

function textLines(indent: string, text: string, width: number): Line[] {
  return wrap(printable(text), width - indent.length).map((line) => [span(indent), span(line)])
}

function causeLines(first: FailureRecord['cause'], width: number): Line[] {
  const lines: Line[] = []
  let cause = first
  for (let depth = 0; cause && depth < CAUSES_MAX; depth++) {
    const indent = ' '.repeat(2 + 2 * depth)
    const code = 'code' in cause ? `${cause.code}: ` : ''
    const [head = '', ...rest] = wrap(printable(`caused by ${code}${cause.message}`), width - indent.length)
    lines.push([span(indent), span(head)], ...rest.map((text): Line => [span(`${indent}  `), span(text)]))
    cause = 'cause' in cause ? cause.cause : undefined
  }
  return lines
}

/** Each problem with its place and, where the text of the file is at hand, the line with a caret under the column. */
function problemLines(problems: Json[], options: FailureTextOptions): Line[] {
  const shown = problems.slice(0, PROBLEMS_MAX).flatMap((value) => {
    if (typeof value === 'string') return textLines('  ', value, options.width)
    const problem = readProblem(value)
    if (!problem) return [[span('  '), span(truncate(printableLine(JSON.stringify(value)), options.width - 2))]]
    return oneProblem(problem, options)
  })
  const left = problems.length - PROBLEMS_MAX
  return left > 0 ? [...shown, [span(`  … ${left} more`, 'dim')]] : shown
}

function oneProblem(problem: Partial<Problem>, options: FailureTextOptions): Line[] {
  const place = [problem.file, problem.line, problem.column].filter((part) => part !== undefined).join(':')
  const where = [place, problem.path].filter(Boolean).join('  ')
  const hint = problem.nearest ? ` (did you mean ${JSON.stringify(problem.nearest)}?)` : ''
  const lines: Line[] = [
    ...(where === '' ? [] : [[span('  '), span(printableLine(where), 'accent')]]),
    ...textLines('    ', `${problem.message ?? ''}${hint}`, options.width),
  ]
  const text = problem.file === undefined ? undefined : options.sources?.[problem.file]
  const source = problem.line === undefined ? undefined : text?.split('\n')[problem.line - 1]
  if (source === undefined || problem.line === undefined) return lines
  const gutter = String(problem.line)
  const column = Math.max(1, problem.column ?? 1)
  // A long line is shown from a little before the place, so that the caret stays in view.
  const room = options.width - gutter.length - 7
  const from = column > room ? column - Math.floor(room / 2) : 0
  const before = printableLine(source.slice(from, column - 1))
  lines.push([
    span(`    ${gutter} | `, 'dim'),
    span(truncate(before + printableLine(source.slice(column - 1)).trimEnd(), room)),
  ])
  const caret = ' '.repeat(displayWidth(before))
  lines.push([span(`    ${' '.repeat(gutter.length)} | `, 'dim'), span(`${caret}^`, 'bad')])
  return lines
}

function readProblem(value: Json): Partial<Problem> | null {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return null
  const text = (key: string) => (typeof value[key] === 'string' ? { [key]: value[key] } : {})
  const number = (key: string) => (typeof value[key] === 'number' ? { [key]: value[key] } : {})
  return {
    ...text('message'),
    ...text('path'),
    ...text('file'),
    ...text('nearest'),
    ...number('line'),
    ...number('column'),
  }
}

function evidenceLines(evidence: JsonObject, width: number): Line[] {
  const entries = Object.entries(evidence).filter(([, value]) => value !== null && value !== '')
  const flat = entries.filter(([, value]) => !isBlock(value) && !isLongList(value, width))
  const keyWidth = Math.min(24, Math.max(0, ...flat.map(([key]) => displayWidth(key))))
  const lines = flat.map(([key, value]): Line => {
    const name = padEnd(printableLine(key), keyWidth)
    return [span(`  ${name}  `, 'dim'), span(truncate(inline(value), width - displayWidth(name) - 4))]
  })
  for (const [key, value] of entries) if (isLongList(value, width)) lines.push(...listLines(key, value, width))
  for (const [key, value] of entries) if (isBlock(value)) lines.push(...blockLines(key, String(value), width))
  return lines
}

/** Texts or maps that would not fit on the line of their key; cut off, the one that matters may be the one that is not seen. */
const isLongList = (value: Json, width: number): value is Item[] =>
  isItems(value) && displayWidth(value.map(itemText).join(', ')) > width - LIST_INDENT

type Item = string | JsonObject

const isItems = (value: Json): value is Item[] =>
  Array.isArray(value) &&
  value.every((one) => typeof one === 'string' || (one !== null && typeof one === 'object' && !Array.isArray(one)))

const itemText = (item: Item): string =>
  typeof item === 'string'
    ? item
    : Object.entries(item)
        .filter(([, value]) => value !== null && value !== '')
        .map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
        .join(', ')

const LIST_INDENT = 28

function listLines(key: string, items: Item[], width: number): Line[] {
  const shown = items
    .slice(0, TAIL_LINES)
    .flatMap((item) =>
      wrap(printableLine(itemText(item)), width - 6).map((text, i): Line => [
        span(i === 0 ? '    - ' : '      ', 'dim'),
        span(text),
      ]),
    )
  const left = items.length - TAIL_LINES
  return [
    [span(`  ${printableLine(key)}`, 'dim')],
    ...shown,
    ...(left > 0 ? [[span(`    … ${left} more`, 'dim')]] : []),
  ]
}

const isBlock = (value: Json): boolean => typeof value === 'string' && value.trimEnd().includes('\n')

function blockLines(key: string, text: string, width: number): Line[] {
  const all = printable(text).trimEnd().split('\n')
  const left = all.length - TAIL_LINES
  const head =
    left > 0 ? `  ${printableLine(key)} (last ${TAIL_LINES} of ${all.length} lines)` : `  ${printableLine(key)}`
  return [
    [span(head, 'dim')],
    ...all.slice(-TAIL_LINES).map((line): Line => [span('    │ ', 'dim'), span(truncate(line, width - 6))]),
  ]
}

function inline(value: Json): string {
  if (typeof value === 'string') return printableLine(value).trimEnd()
  if (Array.isArray(value) && value.every((item) => item === null || typeof item !== 'object')) {
    const shown = value
      .slice(0, ITEMS_MAX)
      .map((item) => printableLine(String(item)))
      .join(', ')
    return value.length > ITEMS_MAX ? `${shown}, … ${value.length - ITEMS_MAX} more` : shown
  }
  return printableLine(JSON.stringify(value))
}
