import type { JsonObject } from '../base/json.ts'
import { type FailureCode, FAILURES } from './failures.ts'

/** A failure as it is stored, sent and shown. Rendered from its data; nothing decides by reading `message`. */
export interface FailureRecord {
  code: FailureCode
  /** What was attempted and on which id; does not repeat the cause. */
  message: string
  cause?: FailureRecord | { message: string }
  /** Facts: paths, exit codes, last lines, candidates. */
  evidence?: JsonObject
  /** What to do in this case; the catalogue's advice when nothing better is known. */
  remediation: string
  /** May the same thing succeed when tried again without a change. */
  retryable: boolean
}

export interface FailureOptions {
  cause?: unknown
  evidence?: JsonObject
  /** Replaces the catalogue's advice where this case allows a better one. */
  remediation?: string
}

/** A failure that someone must act on. Thrown where it is met, rendered at the edge. */
export class Failure extends Error {
  override name = 'Failure'
  readonly code: FailureCode
  readonly evidence: JsonObject | undefined
  readonly remediation: string

  constructor(code: FailureCode, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.evidence = options.evidence
    this.remediation = options.remediation ?? FAILURES[code].advice
  }

  toRecord(): FailureRecord {
    const cause = causeRecord(this.cause)
    return {
      code: this.code,
      message: this.message,
      ...(cause ? { cause } : {}),
      ...(this.evidence ? { evidence: this.evidence } : {}),
      remediation: this.remediation,
      retryable: FAILURES[this.code].retry === 'later',
    }
  }
}

function causeRecord(cause: unknown): FailureRecord | { message: string } | null {
  if (cause === undefined || cause === null) return null
  if (cause instanceof Failure) return cause.toRecord()
  if (cause instanceof Error) return { message: cause.message }
  return { message: typeof cause === 'string' ? cause : JSON.stringify(cause) }
}

/** A record without throwing. */
export function failureRecord(code: FailureCode, message: string, options: FailureOptions = {}): FailureRecord {
  return new Failure(code, message, options).toRecord()
}

/** One problem of a manifest or request, with its place. */
export interface Problem {
  code: FailureCode
  message: string
  /** Path inside the document, such as `spec.steps[2].needs[0]`. */
  path: string
  file?: string
  /** Which document of the file, from 1; absent where the file has one alone. */
  document?: number
  /** 1-based. */
  line?: number
  column?: number
  /** What was probably meant. */
  nearest?: string
}

/** A failure that carries problems; its code is the problems' own when they share one. */
export function failureOfProblems(problems: Problem[], what: string): Failure {
  const first = problems[0]
  const code = first && problems.every((p) => p.code === first.code) ? first.code : 'manifest.invalid'
  const n = problems.length
  return new Failure(code, `${what}: ${n} problem${n === 1 ? '' : 's'}`, {
    evidence: { problems: problems.map((p) => ({ ...p })) },
  })
}
