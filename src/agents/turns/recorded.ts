import type { Json } from '../../base/json.ts'
import type { RecordedResult, WorkerEntry } from '../../domain/agents/journal.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { ModelResult } from '../../domain/model-call.ts'
import { isObject } from '../../domain/placed-problem.ts'

/** Values nested deeper than this are kept as text: nobody who reads the journal has to follow them. */
const NESTING_MAX = LIMITS.nestingMax / 2
/** And what is nested deeper than this is not read at all. */
const READ_DEPTH_MAX = 500
/** Longer names are of no tool. */
const NAME_CHARS = 128

/**
 * An answer as it is recorded. Each call of a tool has an id that is its own within the activation: the model's where it is good for that, else one
 * that is made of its place.
 */
export function recordedOf(
  result: ModelResult,
  { call, taken, warnings }: { call: string; taken: { has(id: string): boolean }; warnings: readonly string[] },
): RecordedResult {
  const { endpoint, provider, model, text, finish, usage, cost, tried, totalMs } = result
  const own = new Set<string>()
  const idOf = (id: string, place: number): string => {
    const isGood = /^[A-Za-z0-9_-]{6,64}$/.test(id) && !/^(t\d|route|call$)/.test(id)
    const chosen = isGood && !taken.has(id) && !own.has(id) ? id : `${call}_${place}`
    own.add(chosen)
    return chosen
  }
  const toolCalls = result.toolCalls.map((made, place) => ({
    id: idOf(made.id, place),
    name: made.name.slice(0, NAME_CHARS) || '?',
    text: made.text,
    input: made.input !== null && isDeeper(made.input, NESTING_MAX) ? null : made.input,
  }))
  return {
    endpoint,
    provider,
    model,
    text,
    toolCalls,
    finish,
    usage,
    cost,
    tried,
    totalMs,
    warnings: [...result.warnings, ...warnings],
  }
}

/** Characters of an answer, its calls of tools included. */
export const charsOf = ({ text, toolCalls }: Pick<ModelResult, 'text' | 'toolCalls'>): number =>
  toolCalls.reduce((sum, call) => sum + call.text.length, text.length)

/** A result whose output is no larger than `bytes`, and how much was cut off. */
export function cutResult(result: ToolResult, bytes: number): { result: ToolResult; cut: number } {
  if (!result.ok) return { result, cut: 0 }
  if (isDeeper(result.output, READ_DEPTH_MAX))
    return {
      result: { ok: false, code: 'tool.invalid_output', reason: 'the output is nested too deep', retryable: false },
      cut: 0,
    }
  const output: Json = isDeeper(result.output, NESTING_MAX) ? JSON.stringify(result.output) : result.output
  const text = typeof output === 'string' ? output : JSON.stringify(output)
  const size = Buffer.byteLength(text)
  if (size <= bytes) return { result: { ok: true, output }, cut: 0 }
  const kept = textOfBytes(text, bytes)
  return { result: { ok: true, output: kept }, cut: size - Buffer.byteLength(kept) }
}

/** The longest beginning of `text` that is no larger than `bytes`, with no character cut in two. */
function textOfBytes(text: string, bytes: number): string {
  const cut = Buffer.from(text.slice(0, bytes)).subarray(0, bytes)
  let end = cut.length
  // A byte of the form 10xxxxxx belongs to a character that began before it.
  while (end > 0 && end < bytes + 1 && ((cut[end - 1] ?? 0) & 0xc0) === 0x80) end--
  const lead = cut[end - 1] ?? 0
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1
  const whole = end - 1 + length <= cut.length ? end - 1 + length : end - 1
  return cut.subarray(0, Math.max(0, whole)).toString()
}

function isDeeper(value: Json, max: number): boolean {
  const work: { value: Json; depth: number }[] = [{ value, depth: 1 }]
  for (let next = work.pop(); next; next = work.pop()) {
    const { value: here, depth } = next
    if (typeof here !== 'object' || here === null) continue
    if (depth > max) return true
    for (const inner of Object.values(here)) work.push({ value: inner, depth: depth + 1 })
  }
  return false
}

const UNSTORABLE = /\\u0000|\\ud[89a-f]/i

export interface StorableEntry {
  entry: WorkerEntry
  /** As JSON, roughly. */
  chars: number
}

/** The entry without what no database keeps as text: halves of characters, and the character zero. */
export function storable(entry: WorkerEntry): StorableEntry {
  const text = JSON.stringify(entry)
  const chars = text.length
  if (!UNSTORABLE.test(text)) return { entry, chars }
  const clean = (text: string): string => text.toWellFormed().replaceAll('\u0000', '\ufffd')
  const deep = (value: Json): Json => {
    if (typeof value === 'string') return clean(value)
    if (Array.isArray(value)) return value.map(deep)
    if (!isObject(value)) return value
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [clean(key), deep(inner)]))
  }
  // An entry is JSON, and stays the same entry with other texts.
  return { entry: deep(entry as unknown as Json) as unknown as WorkerEntry, chars }
}
