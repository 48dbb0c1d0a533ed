import { isRunId } from './ids.ts'

/** One span's place in a trace, as W3C Trace Context has it. */
export interface TraceContext {
  /** 32 hex digits. */
  traceId: string
  /** 16 hex digits. */
  spanId: string
  sampled: boolean
}

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/

/** Null for what is no valid `traceparent`; later versions are read as far as this one goes. */
export function parseTraceparent(text: string | null | undefined): TraceContext | null {
  const [, version, traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(text ?? '') ?? []
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return null
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}

export const formatTraceparent = ({ traceId, spanId, sampled }: TraceContext): string =>
  `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
/** Of an id's tail, what a trace id has no room for: nothing. 10 characters of time hold 48 bits and two that are zero, 16 of chance hold 80. */
const STAMP_CHARS = 10
const TAIL_CHARS = 16

/** The bits of an id that was made here (`run_…`, `req_…`), as a trace id: 48 of time, 80 of chance. */
export function traceIdOfId(id: string): string {
  const digits = id.slice(id.indexOf('_') + 1)
  if (digits.length !== STAMP_CHARS + TAIL_CHARS) return spanIdOf(id) + spanIdOf(`${id} `)
  let bits = 0n
  for (const digit of digits) bits = (bits << 5n) | BigInt(Math.max(0, ALPHABET.indexOf(digit)))
  return BigInt.asUintN(128, bits).toString(16).padStart(32, '0')
}

/** The run whose trace has this id, when the trace is the run's own; null for ids that no run could have. */
export function runIdOfTrace(traceId: string): string | null {
  if (!/^[\da-f]{32}$/.test(traceId)) return null
  let bits = BigInt(`0x${traceId}`)
  let digits = ''
  for (let i = 0; i < STAMP_CHARS + TAIL_CHARS; i++) {
    digits = (ALPHABET[Number(bits & 31n)] ?? '0') + digits
    bits >>= 5n
  }
  const runId = `run_${digits}`
  return isRunId(runId) ? runId : null
}

/** A span id that the same text always gives; so nobody has to store or send it. */
export function spanIdOf(text: string): string {
  let a = 0x811c9dc5
  let b = 0x9747b28c
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    a = Math.imul(a ^ c, 0x01000193)
    b = Math.imul(b ^ c, 0x5bd1e995) ^ (b >>> 15)
  }
  a ^= a >>> 13
  b = Math.imul(b ^ (b >>> 13), 0x85ebca6b)
  const hex = (n: number) => (n >>> 0).toString(16).padStart(8, '0')
  const id = hex(a) + hex(b ^ (b >>> 16))
  return id === '0000000000000000' ? '0000000000000001' : id
}

/**
 * The span of a whole run. Its trace is the one that the request came with (`given`, which is kept with the run), else its own,
 * made of the run id's bits: then nothing is stored.
 */
export function traceOfRun(runId: string, given: string | null = null): TraceContext {
  const foreign = given === null ? null : parseTraceparent(given)
  return {
    traceId: foreign?.traceId ?? traceIdOfId(runId),
    spanId: spanIdOf(runId),
    sampled: foreign?.sampled ?? true,
  }
}

/** The span of the request that created a run whose trace is its own. */
export const creationSpanOf = (runId: string): string => spanIdOf(`create ${runId}`)

/** The span of one attempt; `key` is `<step>@<fence>`. */
export const attemptSpanOf = (key: string): string => spanIdOf(`attempt ${key}`)

/** A piece of work that is over. */
export interface Span extends TraceContext {
  name: string
  kind: 'server' | 'client' | 'internal' | 'consumer'
  parentSpanId: string | null
  /** Milliseconds since the epoch. */
  startedAt: number
  endedAt: number
  attributes: Record<string, string | number | boolean>
  /** What went wrong: a failure code or a few words; null when nothing did. */
  failure: string | null
  links?: readonly { traceId: string; spanId: string }[]
}

/** Takes spans that are over. Never throws and never waits: what cannot be kept is dropped and counted. */
export interface Tracer {
  /** Whether anybody takes spans; when false nothing need be measured. */
  readonly isOn: boolean
  /** Whether spans have in them what was said to models and tools, and not only how long it took and what it cost. */
  readonly capturesContent: boolean
  /** Whether a trace that begins here is kept; the same trace always gives the same answer. */
  samplesRoot(traceId: string): boolean
  /** Whether a trace that came from elsewhere is kept. */
  samplesChild(parent: TraceContext): boolean
  record(span: Span): void
}

export const noTracer: Tracer = {
  isOn: false,
  capturesContent: false,
  samplesRoot: () => true,
  samplesChild: (parent) => parent.sampled,
  record: () => {},
}
