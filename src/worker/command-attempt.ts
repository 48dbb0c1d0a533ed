import { type Clock, type Deferred, deferred, formatTraceparent, type Log } from '../base/index.ts'
import type { Backend, CommandHandle, CommandSpec, EndOfCommand, Take } from '../backends/backend.ts'
import type { Assignment } from '../contract/exchange.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { AttemptScope, fieldsOf } from './attempt-scope.ts'
import type { Attempt, Outcome, PendingReport, Work } from './attempt.ts'
import { failedTearDowns, isOfFiles, outcomeOfEnd } from './command-outcome.ts'
import { checkOutput, failed, outputOutcome } from './outcome.ts'
import type { FileFetching } from './fetch-files.ts'
import type { FileShipping } from './ship-files.ts'
import { LogShipping, type MakeReport } from './log-shipping.ts'

export interface CommandDeps {
  backend: Backend | null
  /** Base environment; the step's own comes on top. */
  env: Record<string, string>
  clock: Clock
  log: Log
  makeReport: MakeReport
  files: FileShipping
  fetching: FileFetching
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
    ...extrasOf(work),
    ...(work.files ? { fill: (workspace) => deps.fetching.fill(attempt, workspace) } : {}),
  }
  return deps.backend.start(spec)
}

function extrasOf(work: Extract<Assignment['work'], { kind: 'command' }>): Partial<CommandSpec> {
  const { setUp, tearDown, exportEnv } = work
  const take = takeOf(work.output)
  return {
    ...(setUp ? { setUp } : {}),
    ...(tearDown ? { tearDown } : {}),
    ...(exportEnv ? { exportEnv } : {}),
    ...(take ? { take } : {}),
  }
}

function takeOf(output: Extract<Assignment['work'], { kind: 'command' }>['output']): Take | null {
  if (output?.from === 'stdout') return { from: 'stdout' }
  return output?.from === 'file' ? { from: 'file', path: output.path } : null
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
      for (const { number, end: how, exitCode, failure } of failedTearDowns(end))
        this.#deps.log.warn('a tear-down failed; the outcome of its step stays', {
          ...fieldsOf(this.#attempt),
          number,
          end: how,
          exitCode,
          code: failure?.code,
        })
      const outcome = await this.#withFiles(await outcomeOfEnd(this.#attempt, end, handle), handle)
      this.#finish(await this.#withExports(outcome, end), end.endedAt + this.#offset())
    } catch (error) {
      this.#finish({ kind: 'failed', failure: startFailure(this.#attempt, error) }, clock.monotonic())
    }
  }

  /** The files that the step leaves are with the server before its end is told: whoever comes next may fetch them. */
  async #withFiles(outcome: Outcome, handle: CommandHandle): Promise<Outcome> {
    const { work } = this.#attempt.assignment
    const rules = (work.kind === 'command' && work.artifacts) || []
    if (rules.length === 0 || (outcome.kind !== 'succeeded' && outcome.kind !== 'failed')) return outcome
    const hasFailed = outcome.kind === 'failed'
    const shipped = await this.#deps.files.ship(this.#attempt, handle.workspace, rules, { failed: hasFailed })
    // What failed first is what the step failed of.
    if (hasFailed) return outcome
    if (shipped.failure) return failed(shipped.failure)
    if (!isOfFiles(this.#attempt)) return outcome
    const listed = outputOutcome(this.#attempt, shipped.files)
    return listed.kind === 'succeeded' ? checkOutput(this.#attempt, listed) : listed
  }

  /** And so are the variables that it hands on. */
  async #withExports(outcome: Outcome, { exported }: EndOfCommand): Promise<Outcome> {
    if (outcome.kind !== 'succeeded' || !exported || Object.keys(exported).length === 0) return outcome
    const failure = await this.#deps.files.export(this.#attempt, exported)
    return failure ? failed(failure) : outcome
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
