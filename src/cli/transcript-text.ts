import { formatDuration, type Json } from '../base/index.ts'
import type { JournalEntry, StoredEntry } from '../domain/agents/journal.ts'
import { type Line, printable, printableLine, span, truncate } from './terminal-text.ts'

/** Lines of a text that are shown when not everything is. */
const LINES_SHOWN = 12
/** Characters of JSON on one line. */
const JSON_SHOWN = 160

export interface TranscriptOptions {
  /** Whole texts and values; else what is long is cut, and it is said. */
  full: boolean
  /** Entries of attempts up to this fence were of tries that failed. */
  countsFrom: number
}

/** What an agent and those whom it asked said, in the order in which it was recorded; what failed tries wrote stands apart. */
export function transcriptLines(entries: readonly StoredEntry[], options: TranscriptOptions): Line[] {
  const lines: Line[] = []
  /** Tools by call: several are under way at once, so each line says of which it is. */
  const tools = new Map<string, string>()
  /** What models asked for, by call. */
  const wished = new Map<string, Wish>()
  let turn = -1
  let fence: number | null = null
  for (const stored of entries) {
    const { entry } = stored
    const isVoid = stored.fence <= options.countsFrom
    if (stored.fence !== fence) {
      if (fence !== null || isVoid) lines.push(attemptLine(stored, isVoid))
      fence = stored.fence
      turn = -1
    }
    if ('turn' in entry && entry.turn !== turn) {
      turn = entry.turn
      lines.push(...(lines.length > 0 ? [[]] : []), [span(`turn ${turn}`, 'bold'), span(agentOf(entry), 'dim')])
    }
    if (entry.kind === 'tool_asked') tools.set(entry.call, printableLine(entry.tool))
    else if (entry.kind === 'tool_answered' && !tools.has(entry.call)) {
      // Turned away before it was asked for: what was wanted stands in the answer of the model alone.
      const wanted = wished.get(entry.call)
      if (wanted) {
        tools.set(entry.call, printableLine(wanted.name))
        lines.push(wishLine(wanted, options))
      }
    }
    if (entry.kind === 'model_answered') for (const wish of entry.result.toolCalls) wished.set(wish.id, wish)
    lines.push(...entryLines(entry, { ...options, tool: 'call' in entry ? (tools.get(entry.call) ?? '') : '' }))
  }
  return lines
}

type Wish = Extract<JournalEntry, { kind: 'model_answered' }>['result']['toolCalls'][number]

const wishLine = ({ name, text }: Wish, { full }: TranscriptOptions): Line => [
  span('  ⚙ ', 'accent'),
  span(printableLine(name), 'accent'),
  span(`  ${full ? printableLine(text) : truncate(printableLine(text), JSON_SHOWN)}`),
]

const agentOf = (entry: JournalEntry): string => ('agent' in entry ? `  ${printableLine(entry.agent)}` : '')

const attemptLine = ({ fence, at }: StoredEntry, isVoid: boolean): Line => [
  span(`── attempt ${fence}`, 'dim'),
  span(`  ${at.slice(11, 19)}`, 'dim'),
  span(isVoid ? '  failed: what follows counts no more' : '', 'warn'),
]

interface EntryOptions extends TranscriptOptions {
  /** Of the call that the entry is about; empty where there is none. */
  tool: string
}

function entryLines(entry: JournalEntry, options: EntryOptions): Line[] {
  switch (entry.kind) {
    case 'model_asked': {
      const what = entry.purpose === 'turn' ? 'asks' : `asks for a ${entry.purpose}:`
      return [
        [span('  → ', 'dim'), span(`${what} ${entry.endpoint}`, 'dim'), span(`  ~${entry.tokens.input} tokens`, 'dim')],
      ]
    }
    case 'model_answered':
      return answerLines(entry, options)
    case 'model_failed':
      return [[span('  ✗ ', 'bad'), span(entry.failure.code, 'bad'), span(`  ${printableLine(entry.failure.message)}`)]]
    case 'tool_asked':
      return [
        [
          span('  ⚙ ', 'accent'),
          span(printableLine(entry.tool), 'accent'),
          span(`  ${entry.operation}  `, 'dim'),
          span(jsonText(entry.input, options)),
        ],
      ]
    case 'tool_answered':
      return resultLines(entry.result, `  ${formatDuration(entry.ms)}${cutText(entry.cut)}`, options)
    case 'verdict':
      return verdictLines(entry, options)
    case 'decided':
      return decisionLines(entry, options)
    case 'child_started':
      return [[span('  ↓ ', 'accent'), ...named(options.tool), span(`runs below as ${entry.run}`)]]
    case 'child_ended':
      return resultLines(entry.result, `  ${entry.run}`, options)
    case 'handed_over':
      return [[span('  ⇒ ', 'accent'), span(`${printableLine(entry.from)} hands over to ${printableLine(entry.to)}`)]]
  }
}

function answerLines(
  { result }: Extract<JournalEntry, { kind: 'model_answered' }>,
  options: TranscriptOptions,
): Line[] {
  const { usage, cost, finish, tried, warnings } = result
  const facts = [
    result.model,
    `${usage.inputTokens} + ${usage.outputTokens} tokens${usage.isEstimated ? ' (estimated)' : ''}`,
    ...(cost ? [`${cost.amount} ${cost.currency}`] : []),
    formatDuration(result.totalMs),
    ...(finish === 'stop' || finish === 'tool-calls' ? [] : [`ended by ${finish}`]),
  ]
  return [
    [span('  ← ', 'dim'), span(facts.join('  '), 'dim')],
    ...tried.map((one): Line => [span('    ', 'dim'), span(`${one.endpoint} did not answer: ${one.code}`, 'warn')]),
    ...warnings.map((warning): Line => [span(`    ${printableLine(warning)}`, 'warn')]),
    ...textLines(result.text, options),
  ]
}

function textLines(text: string, { full }: TranscriptOptions): Line[] {
  if (text === '') return []
  const all = printable(text).split('\n')
  const shown = full || all.length <= LINES_SHOWN ? all : all.slice(0, LINES_SHOWN)
  const more = all.length - shown.length
  return [
    ...shown.map((line): Line => [span('    │ ', 'dim'), span(line)]),
    ...(more > 0 ? [[span(`    │ … ${more} more lines: --full`, 'dim')]] : []),
  ]
}

function resultLines(
  result: Extract<JournalEntry, { kind: 'tool_answered' }>['result'],
  facts: string,
  options: EntryOptions,
): Line[] {
  if (result.ok)
    return [[span('  ✓ ', 'good'), ...named(options.tool), span(jsonText(result.output, options)), span(facts, 'dim')]]
  const again = result.retryable ? '  may be tried again' : ''
  return [
    [
      span('  ✗ ', 'bad'),
      ...named(options.tool),
      span(result.code, 'bad'),
      span(`  ${printableLine(result.reason)}`),
      span(`${again}${facts}`, 'dim'),
    ],
  ]
}

function verdictLines(
  { verdict, approval }: Extract<JournalEntry, { kind: 'verdict' }>,
  { tool }: EntryOptions,
): Line[] {
  switch (verdict.verdict) {
    case 'allow':
      return []
    case 'deny':
      return [
        [
          span('  ✗ ', 'bad'),
          ...named(tool),
          span(verdict.code, 'bad'),
          span(`  ${printableLine(verdict.reason)}`),
          span(`  by ${verdict.rule}`, 'dim'),
        ],
      ]
    case 'approval':
      return [
        [
          span('  ? ', 'warn'),
          ...named(tool),
          span(`waits for a person: ${approval ?? ''}`, 'warn'),
          span(
            `  by ${verdict.rule}${verdict.reason === undefined ? '' : `: ${printableLine(verdict.reason)}`}`,
            'dim',
          ),
        ],
      ]
  }
}

function decisionLines(entry: Extract<JournalEntry, { kind: 'decided' }>, options: EntryOptions): Line[] {
  const by = entry.by === null ? 'nobody decided in time' : `${entry.state} by ${printableLine(entry.by)}`
  const comment = entry.comment === null ? '' : `: ${printableLine(entry.comment)}`
  const style = entry.state === 'approved' ? 'good' : 'bad'
  const mark = entry.state === 'approved' ? '  ✓ ' : '  ✗ '
  const about = entry.about === 'outcome' ? ' (whether it was done)' : ''
  return [
    [span(mark, style), ...named(options.tool), span(`${by}${about}${comment}`, style)],
    ...(entry.input === null
      ? []
      : [[span('    with other arguments: ', 'dim'), span(jsonText(entry.input, options))]]),
  ]
}

const cutText = (bytes: number): string => (bytes > 0 ? `  ${bytes} bytes were cut off` : '')

function jsonText(value: Json, { full }: TranscriptOptions): string {
  const text = printableLine(JSON.stringify(value))
  return full ? text : truncate(text, JSON_SHOWN)
}

/** Of which call a line is; nothing where that is not known. */
const named = (tool: string): Line => (tool === '' ? [] : [span(`${tool} `, 'dim')])
