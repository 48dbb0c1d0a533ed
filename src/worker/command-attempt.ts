import { readFile, stat } from 'node:fs/promises'
import { type Clock, type Deferred, deferred, formatTraceparent, type JsonObject, type Log } from '../base/index.ts'
import type { Backend, CommandEnd, CommandHandle, CommandSpec } from '../backends/backend.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import type { FailureCode } from '../domain/failures.ts'
import { LIMITS } from '../domain/limits.ts'
import { AttemptScope, fieldsOf } from './attempt-scope.ts'
import type { Attempt, Outcome, PendingReport, Work } from './attempt.ts'
import { checkOutput, outputOutcome, tooLarge } from './outcome.ts'
import type { FileShipping } from './ship-files.ts'
import { LogShipping, type MakeReport } from './log-shipping.ts'
import { boundText } from './to-json.ts'

export interface CommandDeps {
  backend: Backend | null
  /** Base environment; the step's own comes on top. */
  env: Record<string, string>
  clock: Clock
  log: Log
  makeReport: MakeReport
  files: FileShipping
  /** Remembers, for a later life of this worker, up to which segment the server has the output. */
  onLogAcked(attempt: Attempt, index: number): void
  /** Called once. `endedAt` is monotonic. */
  onEnd(attempt: Attempt, outcome: Outcome, endedAt: number): void
}

/** Starts the command of an attempt through the backend. */
export function startCommand(attempt: Attempt, deps: CommandDeps): Work {
  const command = new RunningCommand(attempt, deps)
  void command.supervise(() => startByBackend(attempt, deps), 0)
  return command
}

/** Goes on with a command that an earlier life of this worker started; `after` is the last segment that the server has. */
export function adoptCommand(attempt: Attempt, handle: CommandHandle, after: number, deps: CommandDeps): Work {
  const command = new RunningCommand(attempt, deps)
  void command.supervise(() => Promise.resolve(handle), after)
  return command
}

async function startByBackend(attempt: Attempt, deps: CommandDeps): Promise<CommandHandle> {
  const { assignment } = attempt
  if (assignment.work.kind !== 'command' || !deps.backend) {
    throw new Failure('backend.start_failed', `starting ${attempt.key}: this worker has no backend for commands`)
  }
  const { work } = assignment
  const spec: CommandSpec = {
    key: attempt.key,
    argv: work.command,
    env: {
      ...deps.env,
      TRACEPARENT: formatTraceparent(new AttemptScope(attempt).trace),
      ...work.env,
      ...attempt.secrets,
      ORRERY_RUN_ID: assignment.runId,
      ORRERY_STEP: assignment.name,
    },
    stdin: work.stdin,
    workdir: work.workdir,
    timeoutMs: assignment.timeoutMs,
    killGraceMs: LIMITS.killGraceMs,
    keepOnFailureMs: work.keepOnFailureMs,
    note: JSON.stringify(assignment),
    ...(attempt.redactor ? { redact: Object.values(attempt.secrets) } : {}),
  }
  return deps.backend.start(spec)
}

class RunningCommand implements Work {
  // The backend kills what does not stop by itself.
  readonly graceMs = null
  readonly #attempt: Attempt
  readonly #deps: CommandDeps
  readonly #logs: LogShipping
  #handle: CommandHandle | null = null
  #aborted = false
  #released: { failed: boolean } | null = null
  #hasEnded = false
  #detached = false
  readonly #over: Deferred<void> = deferred()

  constructor(attempt: Attempt, deps: CommandDeps) {
    this.#attempt = attempt
    this.#deps = deps
    this.#logs = new LogShipping(attempt, deps.makeReport)
  }

  /** Segments are reported as they are read; only the start is learned late. */
  refresh(): void {
    const startedAt = this.#handle?.startedAt ?? null
    if (startedAt !== null) this.#attempt.startedAt = startedAt + this.#offset()
  }

  logAcked(report: PendingReport): void {
    this.#logs.acked(report)
    const last = report.body.kind === 'log' ? report.body.segments.at(-1) : undefined
    if (last) this.#deps.onLogAcked(this.#attempt, last.index)
  }

  abort(): void {
    this.#aborted = true
    if (this.#handle) this.#cancel(this.#handle)
  }

  release(outcome: { failed: boolean }): void {
    this.#released = outcome
    this.#logs.close()
    if (this.#hasEnded) this.#forget()
  }

  detach(): void {
    this.#detached = true
    this.#logs.close()
  }

  get ended(): Promise<void> {
    return this.#over.promise
  }

  get remembered(): boolean {
    return this.#handle !== null
  }

  async supervise(begin: () => Promise<CommandHandle>, after: number): Promise<void> {
    const { clock } = this.#deps
    let handle: CommandHandle
    try {
      handle = await begin()
    } catch (error) {
      this.#finish({ kind: 'failed', failure: startFailure(this.#attempt, error) }, clock.monotonic())
      return
    }
    this.#handle = handle
    if (this.#aborted) this.#cancel(handle)
    this.refresh()
    try {
      await this.#shipOutput(handle, after)
    } catch (error) {
      this.#deps.log.warn('output of a command could not be read', { ...fieldsOf(this.#attempt), error: String(error) })
    }
    try {
      const end = await handle.ended
      this.refresh()
      const outcome = await this.#withFiles(await this.#outcomeOf(end, handle), handle)
      this.#finish(outcome, end.endedAt + this.#offset())
    } catch (error) {
      this.#finish({ kind: 'failed', failure: startFailure(this.#attempt, error) }, clock.monotonic())
    }
  }

  /** The files that the step leaves are with the server before its end is told: whoever comes next may fetch them. */
  async #withFiles(outcome: Outcome, handle: CommandHandle): Promise<Outcome> {
    const { work } = this.#attempt.assignment
    const rules = (work.kind === 'command' && work.artifacts) || []
    if (rules.length === 0 || (outcome.kind !== 'succeeded' && outcome.kind !== 'failed')) return outcome
    const failed = outcome.kind === 'failed'
    const failure = await this.#deps.files.ship(this.#attempt, handle.workspace, rules, { failed })
    // What failed first is what the step failed of.
    if (failure === null || failed) return outcome
    return { kind: 'failed', failure }
  }

  /** From the host's clock, which the backend speaks, to the monotonic one. */
  #offset(): number {
    return this.#deps.clock.monotonic() - this.#deps.clock.now()
  }

  async #shipOutput(handle: CommandHandle, after: number): Promise<void> {
    const offset = this.#offset()
    for await (const { index, stream, at, text } of handle.output(after)) {
      if (this.#released || this.#detached) return
      this.#logs.add({ index, stream, at: at + offset, text })
      if (this.#logs.full) await this.#logs.room()
    }
    this.#logs.finish(this.#deps.clock.monotonic())
  }

  async #outcomeOf(end: CommandEnd & { endedAt: number }, handle: CommandHandle): Promise<Outcome> {
    const attempt = this.#attempt
    const failed = (code: FailureCode, message: string, evidence: JsonObject): Outcome => ({
      kind: 'failed',
      failure: failureRecord(code, message, { evidence: { ...evidence, ...keptOf(attempt, end, handle) } }),
    })
    const what = `the command of step ${attempt.assignment.name} of ${attempt.assignment.runId}`
    switch (end.kind) {
      case 'exited': {
        const { exitCode, outputFile } = end
        const tail = boundText(end.tail, LIMITS.tailBytes)
        if (exitCode !== 0) return failed('step.exit_nonzero', `running ${what}`, { exitCode, tail })
        const outcome = await readOutput(attempt, outputFile)
        const checked = outcome.kind === 'succeeded' ? checkOutput(attempt, outcome) : outcome
        if (checked.kind !== 'failed') return checked
        const { failure } = checked
        const evidence = { ...failure.evidence, tail, ...keptOf(attempt, end, handle) }
        return { kind: 'failed', failure: { ...failure, evidence } }
      }
      case 'signaled': {
        const tail = boundText(end.tail, LIMITS.tailBytes)
        return failed('step.signaled', `running ${what}`, { signal: end.signal, tail })
      }
      case 'timed_out': {
        const { timeoutMs, exitCode, signal } = end
        const tail = boundText(end.tail, LIMITS.tailBytes)
        return failed('step.timed_out', `running ${what}`, { timeoutMs, exitCode, signal, tail })
      }
      case 'canceled':
        return { kind: 'canceled' }
      case 'lost':
        return failed('backend.lost', `waiting for ${what}`, { tail: boundText(end.tail, LIMITS.tailBytes) })
      case 'not_started':
        return { kind: 'failed', failure: end.failure }
    }
  }

  #finish(outcome: Outcome, endedAt: number): void {
    if (this.#detached) return
    this.#hasEnded = true
    this.#deps.onEnd(this.#attempt, outcome, endedAt)
    if (this.#released) this.#forget()
  }

  #cancel(handle: CommandHandle): void {
    handle.cancel().catch((error: unknown) => {
      this.#deps.log.error('command could not be canceled', { ...fieldsOf(this.#attempt), error: String(error) })
    })
  }

  #forget(): void {
    const outcome = this.#released
    if (!outcome) return
    if (!this.#handle) {
      this.#over.resolve()
      return
    }
    this.#handle
      .forget(outcome)
      .catch((error: unknown) => {
        this.#deps.log.warn('workspace could not be removed', { ...fieldsOf(this.#attempt), error: String(error) })
      })
      .finally(() => this.#over.resolve())
  }
}

function startFailure(attempt: Attempt, error: unknown): FailureRecord {
  if (error instanceof Failure) return error.toRecord()
  return failureRecord('backend.start_failed', `starting the command of ${attempt.key}`, { cause: error })
}

/** Where the workspace stays and how long, when the step asks for that. Known before the backend is told, because it travels with the failure. */
function keptOf(attempt: Attempt, end: { endedAt: number }, handle: CommandHandle): JsonObject {
  const { work } = attempt.assignment
  if (work.kind !== 'command' || work.keepOnFailureMs === null) return {}
  return { kept: { path: handle.workspace, until: new Date(end.endedAt + work.keepOnFailureMs).toISOString() } }
}

/** The JSON that the command wrote to $ORRERY_OUTPUT; `{ exitCode: 0 }` when it wrote nothing. */
async function readOutput(attempt: Attempt, path: string | null): Promise<Outcome> {
  const nothing = { kind: 'succeeded', output: { exitCode: 0 }, bytes: 20 } as const
  if (path === null) return nothing
  let text: string
  try {
    const { size } = await stat(path)
    if (size > LIMITS.outputBytes) return { kind: 'failed', failure: tooLarge(attempt, size) }
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return nothing
    return { kind: 'failed', failure: failureRecord('output.not_json', `reading ${path}`, { cause: error }) }
  }
  if (text.trim() === '') return nothing
  try {
    return outputOutcome(attempt, JSON.parse(text))
  } catch (error) {
    const evidence = { path, head: boundText(text, 1024) }
    return { kind: 'failed', failure: failureRecord('output.not_json', `parsing ${path}`, { cause: error, evidence }) }
  }
}
