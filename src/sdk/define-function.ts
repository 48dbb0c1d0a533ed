import type { Secret } from '../base/secret.ts'

/** The part of Standard Schema v1 (standardschema.dev) that we use; Zod 4, Valibot and ArkType schemas have it. */
export interface StandardSchema<T> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    validate(value: unknown):
      | { value: T; issues?: undefined }
      | { issues: readonly { message: string; path?: readonly (PropertyKey | { key: PropertyKey })[] | undefined }[] }
      | Promise<
          | { value: T; issues?: undefined }
          | {
              issues: readonly { message: string; path?: readonly (PropertyKey | { key: PropertyKey })[] | undefined }[]
            }
        >
  }
}

/** A file of a step. */
export interface StepFile {
  /** Relative path, with forward slashes. */
  name: string
  bytes: number
  /** SHA-256 of its content, in hex. */
  sha256: string
}

/** The files that a function is given and leaves. */
export interface StepFiles {
  /** Files of earlier steps that `files:` of this step names, under the names that they have here. */
  readonly given: readonly StepFile[]
  /**
   * The content of one of them, checked against what was left. Throws `artifact.not_found` when it is not among them or its time is over,
   * `artifact.checksum_mismatch` when it is not what was left.
   */
  read(name: string): Promise<Uint8Array>
  /**
   * Leaves a file, as a command does by `artifacts`. It is with the server when this resolves; the same name again takes its place. Kept 30 days, or as long
   * as is said, up to a year. Throws `artifact.unreadable` for a name that cannot be kept, `artifact.too_large` and `artifact.too_many`.
   */
  put(name: string, content: string | Uint8Array, options?: { retentionMs?: number }): Promise<StepFile>
}

/** What a function is told beside its input. */
export interface FunctionContext {
  runId: string
  /** Name with indices. */
  step: string
  /** Names this attempt for ever; another try has another one. What must happen once for all tries is named by run and step. */
  attemptKey: string
  /** Failed tries before this one. */
  tries: number
  /** This attempt as W3C Trace Context has it; send it along with requests, and their spans hang below this one. */
  traceparent: string
  /** Aborted on cancel, time-out and when the step is no longer ours. */
  signal: AbortSignal
  /** The secrets that the step asked for, by alias: `context.secrets.github.reveal()`. Printing one shows `[secret]`. */
  secrets: Readonly<Record<string, Secret>>
  /** Files of earlier steps, and those that this one leaves. */
  files: StepFiles
  /** A line for the step's log. */
  log(line: string): void
}

export interface FunctionDefinition<I, O> {
  readonly orrery: 'function'
  readonly input: StandardSchema<I> | null
  readonly output: StandardSchema<O> | null
  run(input: I, context: FunctionContext): O | Promise<O>
}

/** A function step, typed in and out: input and output are checked by their schemas on the worker. */
export function defineFunction<I, O>(definition: {
  input?: StandardSchema<I>
  output?: StandardSchema<O>
  run(input: I, context: FunctionContext): O | Promise<O>
}): FunctionDefinition<I, O> {
  return { orrery: 'function', input: definition.input ?? null, output: definition.output ?? null, run: definition.run }
}
