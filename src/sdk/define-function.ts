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
