import { type Clock, formatTraceparent, type Json, type JsonObject, nearest, Secret } from '../base/index.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import { FAILURES, type FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import type { WantedFile } from '../domain/wanted-files.ts'
import type { FunctionContext, FunctionDefinition, StandardSchema, StepFiles } from '../sdk/index.ts'
import { AttemptScope } from './attempt-scope.ts'
import type { Attempt, Outcome, PendingReport, Work } from './attempt.ts'
import type { FileFetching } from './fetch-files.ts'
import { FunctionFiles } from './function-files.ts'
import { LogShipping, type MakeReport } from './log-shipping.ts'
import { checkOutput, describe, failed, outputOutcome, schemaViolation } from './outcome.ts'
import type { FileShipping } from './ship-files.ts'
import { boundText, toJson } from './to-json.ts'

export interface FunctionDeps {
  modules: Record<string, unknown>
  clock: Clock
  makeReport: MakeReport
  files: FileShipping
  fetching: FileFetching
  /** Called once, unless the function never ends. */
  onEnd(attempt: Attempt, outcome: Outcome): void
}

type AnyFunction = (input: unknown, context: FunctionContext) => unknown
type Found = { kind: 'plain'; run: AnyFunction } | { kind: 'defined'; definition: FunctionDefinition<unknown, unknown> }

/** Starts the function of an attempt. A function that ends at once is reported before this returns. */
export function startFunction(attempt: Attempt, deps: FunctionDeps): Work {
  const { work } = attempt.assignment
  const running = new RunningFunction(attempt, deps)
  if (work.kind !== 'function') {
    running.end(failed(failureRecord('function.not_found', `${describe(attempt)} is not a function step`)))
    return running
  }
  const found = findFunction(deps.modules, work.function)
  if (found instanceof Failure) running.end(failed(found.toRecord()))
  else if (work.files) void running.callGiven(found, work.input)
  else if (found.kind === 'plain') running.call(found.run, work.input)
  else if (found.definition.input === null && found.definition.output === null) {
    running.call((input, context) => found.definition.run(input, context), work.input)
  } else void running.callChecked(found.definition, work.input)
  return running
}

/** `module.export`, where the module is what stands before the first dot. */
export function findFunction(modules: Record<string, unknown>, name: string): Found | Failure {
  const dot = name.indexOf('.')
  const moduleName = dot < 0 ? name : name.slice(0, dot)
  const exportName = dot < 0 ? 'default' : name.slice(dot + 1)
  const loaded = Object.hasOwn(modules, moduleName) ? modules[moduleName] : undefined
  if (typeof loaded !== 'object' || loaded === null) {
    const names = Object.keys(modules)
    return notFound(
      name,
      `no module ${moduleName} is loaded`,
      { modules: names.slice(0, 50) },
      nearest(moduleName, names),
    )
  }
  const exported: unknown = Object.hasOwn(loaded, exportName) ? Reflect.get(loaded, exportName) : undefined
  if (isDefinition(exported)) return { kind: 'defined', definition: exported }
  // Any function may be called so; what it makes of its arguments is the author's affair.
  if (typeof exported === 'function') return { kind: 'plain', run: exported as AnyFunction }
  const callable = Object.keys(loaded).filter((key) => isCallable(Reflect.get(loaded, key)))
  const what = exported === undefined ? 'has no such export' : 'exports it, but it is no function'
  const near = nearest(exportName, callable)
  return notFound(
    name,
    `module ${moduleName} ${what}`,
    { exports: callable.slice(0, 50) },
    near && `${moduleName}.${near}`,
  )
}

function notFound(name: string, why: string, evidence: JsonObject, near: string | null): Failure {
  return new Failure('function.not_found', `looking up function ${name}: ${why}`, {
    evidence: { function: name, ...evidence, ...(near ? { nearest: near } : {}) },
    ...(near ? { remediation: `Did you mean ${near}? ${FAILURES['function.not_found'].advice}` } : {}),
  })
}

function isDefinition(value: unknown): value is FunctionDefinition<unknown, unknown> {
  return typeof value === 'object' && value !== null && 'orrery' in value && value.orrery === 'function'
}

const isCallable = (value: unknown): boolean => typeof value === 'function' || isDefinition(value)

const ENDED = Promise.resolve()

class RunningFunction implements Work, FunctionContext {
  readonly graceMs = LIMITS.killGraceMs
  readonly remembered = false
  readonly ended = ENDED
  readonly #attempt: Attempt
  readonly #deps: FunctionDeps
  // Both are made when first asked for: most functions ask for neither.
  #controller: AbortController | null = null
  #logs: LogShipping | null = null
  #secrets: Record<string, Secret> | null = null
  #files: FunctionFiles | null = null
  #given: readonly WantedFile[] = []
  #aborted = false
  #ended = false
  #text = ''
  #textAt = 0

  constructor(attempt: Attempt, deps: FunctionDeps) {
    this.#attempt = attempt
    this.#deps = deps
    this.log = this.log.bind(this)
  }

  get runId(): string {
    return this.#attempt.assignment.runId
  }
  get step(): string {
    return this.#attempt.assignment.name
  }
  get attemptKey(): string {
    return this.#attempt.key
  }
  get traceparent(): string {
    return formatTraceparent(new AttemptScope(this.#attempt).trace)
  }
  get tries(): number {
    return this.#attempt.assignment.tries
  }
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#aborted) this.#controller.abort()
    }
    return this.#controller.signal
  }

  get secrets(): Readonly<Record<string, Secret>> {
    this.#secrets ??= Object.fromEntries(
      Object.entries(this.#attempt.secrets).map(([alias, value]) => [alias, new Secret(value)]),
    )
    return this.#secrets
  }

  get files(): StepFiles {
    const { fetching, files: shipping } = this.#deps
    this.#files ??= new FunctionFiles(this.#attempt, { fetching, shipping, given: this.#given })
    return this.#files
  }

  /** A function cannot be made to wait for its log, so what comes faster than it can be sent is counted and dropped. */
  log(line: string): void {
    if (this.#ended) return
    const text = boundText(this.#clean(String(line)), LIMITS.logSegmentBytes - 100)
    if (this.#logs?.full) {
      this.#logs.drop(text.length + 1)
      return
    }
    if (this.#text === '') this.#textAt = this.#deps.clock.monotonic()
    else if ((this.#text.length + text.length) * 3 > LIMITS.logSegmentBytes) {
      this.#flushLog()
      this.#textAt = this.#deps.clock.monotonic()
    }
    this.#text += `${text}\n`
  }

  /** Before anything is cut off: of half a secret nobody would know that it is one. */
  #clean(text: string): string {
    return this.#attempt.redactor?.text(text) ?? text
  }

  refresh(): void {
    this.#flushLog()
  }

  #flushLog(): void {
    if (this.#text === '') return
    this.#logs ??= new LogShipping(this.#attempt, this.#deps.makeReport)
    const text = this.#text
    this.#text = ''
    this.#logs.add({ index: this.#logs.lastIndex + 1, stream: 'stdout', at: this.#textAt, text })
  }

  logAcked(report: PendingReport): void {
    this.#logs?.acked(report)
  }

  abort(): void {
    this.#aborted = true
    this.#controller?.abort()
  }

  release(): void {
    this.#logs?.close()
  }

  detach(): void {
    this.abort()
  }

  end(outcome: Outcome): void {
    if (this.#ended) return
    this.#ended = true
    this.#flushLog()
    this.#logs?.finish(this.#deps.clock.monotonic())
    this.#deps.onEnd(this.#attempt, outcome)
  }

  /** Without schemas and promises all of this happens in one go. */
  call(run: AnyFunction, input: Json): void {
    let result: unknown
    try {
      result = run(input, this)
    } catch (error) {
      this.end(this.#threw(error))
      return
    }
    if (isThenable(result)) {
      result.then(
        (value) => this.end(this.#outcomeOf(value)),
        (error: unknown) => this.end(this.#threw(error)),
      )
    } else this.end(this.#outcomeOf(result))
  }

  /** With files of earlier steps, which have to be there before it begins. */
  async callGiven(found: Found, input: Json): Promise<void> {
    try {
      this.#given = await this.#deps.fetching.list(this.#attempt)
    } catch (error) {
      this.end(
        failed(
          error instanceof Failure
            ? error.toRecord()
            : failureRecord('internal.bug', 'listing files', { cause: error }),
        ),
      )
      return
    }
    if (this.#aborted) return this.end({ kind: 'canceled' })
    if (found.kind === 'plain') this.call(found.run, input)
    else await this.callChecked(found.definition, input)
  }

  /** With schemas: input checked before, output after. */
  async callChecked(definition: FunctionDefinition<unknown, unknown>, rawInput: Json): Promise<void> {
    const { input, output } = definition
    try {
      let value: unknown = rawInput
      if (input) {
        const checked = await validate(input, rawInput)
        if (checked.kind === 'bad') {
          const message = `checking the input of ${describe(this.#attempt)}`
          this.end(failed(failureRecord('input.invalid', message, { evidence: { problems: checked.problems } })))
          return
        }
        value = checked.value
      }
      const result = await definition.run(value, this)
      if (!output) {
        this.end(this.#outcomeOf(result))
        return
      }
      const checked = await validate(output, result)
      this.end(checked.kind === 'bad' ? this.#outputViolates(checked.problems, result) : this.#outcomeOf(checked.value))
    } catch (error) {
      this.end(this.#threw(error))
    }
  }

  #outcomeOf(result: unknown): Outcome {
    const outcome = outputOutcome(this.#attempt, result === undefined ? null : result)
    return outcome.kind === 'succeeded' ? checkOutput(this.#attempt, outcome) : outcome
  }

  #outputViolates(problems: JsonObject[], raw: unknown): Outcome {
    const json = toJson(raw)
    return schemaViolation(this.#attempt, problems, json.kind === 'json' ? json.value : null)
  }

  #threw(error: unknown): Outcome {
    if (error instanceof Failure && isAuthors(error.code)) return failed(boundFailure(error))
    const isError = error instanceof Error
    const name = isError ? error.name : typeof error
    const message = boundText(this.#clean(isError ? error.message : safeText(error)), 4 * 1024)
    const evidence: JsonObject = { name, message }
    if (isError && error.stack) evidence['stack'] = boundText(this.#clean(error.stack), 8 * 1024)
    return failed(
      failureRecord('step.function_threw', `running ${describe(this.#attempt)}`, { cause: message, evidence }),
    )
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** A function may fail with a code of its own choice where the code blames its author or caller, never the product. */
function isAuthors(code: FailureCode): boolean {
  return FAILURES[code].fault === 'author' || FAILURES[code].fault === 'caller'
}

function boundFailure(failure: Failure): FailureRecord {
  const record = failure.toRecord()
  if (record.evidence && JSON.stringify(record.evidence).length > LIMITS.evidenceBytes) delete record.evidence
  return { ...record, message: boundText(record.message, 4 * 1024) }
}

function safeText(value: unknown): string {
  try {
    return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  } catch {
    return Object.prototype.toString.call(value)
  }
}

async function validate(
  schema: StandardSchema<unknown>,
  value: unknown,
): Promise<{ kind: 'fits'; value: unknown } | { kind: 'bad'; problems: JsonObject[] }> {
  const checked = await schema['~standard'].validate(value)
  if (!checked.issues) return { kind: 'fits', value: checked.value }
  const problems = checked.issues.slice(0, 50).map((issue) => ({
    path: (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.'),
    message: boundText(issue.message, 1024),
  }))
  return { kind: 'bad', problems }
}
