import { type Clock, type Deadlines, inScope, type Log, type Metrics, type Tracer } from '../base/index.ts'
import type { Backend, CommandHandle } from '../backends/backend.ts'
import type { Assignment, CancelOrder, ExchangeLane, HeldAttempt, ReportAck } from '../contract/exchange.ts'
import { failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import {
  type Attempt,
  attemptKey,
  type EndBody,
  isEnd,
  newAttempt,
  type Outcome,
  type PendingReport,
  type ReportBody,
  type StopReason,
} from './attempt.ts'
import { AttemptScope, fieldsOf, spanOfAttempt } from './attempt-scope.ts'
import { type AgentDeps, startAgent } from './agent-attempt.ts'
import type { AgentRuntime } from './agent-runtime.ts'
import type { AttemptAsker } from './attempt-asker.ts'
import { adoptCommand, type CommandDeps, startCommand } from './command-attempt.ts'
import { type FunctionDeps, startFunction } from './function-attempt.ts'
import type { Outbox } from './outbox.ts'
import { failed, redactFailure } from './outcome.ts'
import { RecentKeys } from './recent-keys.ts'
import type { FileFetching } from './fetch-files.ts'
import type { FileShipping } from './ship-files.ts'

/** Work that runs longer than this says that it started; shorter work says so with its end. */
const SHOW_START_MS = 100
/** Reports of an adopted command are numbered from here past the last known one: above all that may have been sent before. */
const ADOPTED_SEQ_GAP = 1_000

export interface SupervisorDeps {
  capacity: number
  backend: Backend | null
  modules: Record<string, unknown>
  env: Record<string, string>
  clock: Clock
  log: Log
  outbox: Outbox
  files: FileShipping
  fetching: FileFetching
  /** Null: this worker runs no agents. */
  agents: AgentRuntime | null
  lane: ExchangeLane
  asker: AttemptAsker
  deadlines: Deadlines
  /** Name of the worker, for spans. */
  worker: string
  /** Take measurements and spans; nobody does when absent. */
  metrics?: Metrics | undefined
  tracer?: Tracer | undefined
  send(report: PendingReport): void
  /** Told every secret value that comes with an assignment, so that the log of this process can leave it out. */
  remember(value: string): void
  /** Something is held from now on that the sweep must look after. */
  onBusy(): void
  /** Nothing is held any more. */
  onIdle(): void
}

/** All attempts of this worker: which run, which wait for a slot, which wait for their acknowledgement. */
export class Supervisor {
  readonly #deps: SupervisorDeps
  readonly #held = new Map<string, Attempt>()
  /** No longer ours, but the work has not ended yet. */
  readonly #dying = new Set<Attempt>()
  readonly #done = new RecentKeys(20_000)
  readonly #functionDeps: FunctionDeps
  readonly #commandDeps: CommandDeps
  readonly #agentDeps: AgentDeps
  #queue: Attempt[] = []
  #running = 0
  #starting = false
  #draining = false
  ignored = 0
  finished = 0

  constructor(deps: SupervisorDeps) {
    this.#deps = deps
    const makeReport = this.#report.bind(this)
    const { modules, clock, backend, env, log } = deps
    const finishNow = (attempt: Attempt, outcome: Outcome) => this.#finish(attempt, outcome, clock.monotonic())
    const { files, fetching } = deps
    this.#functionDeps = { modules, clock, makeReport, files, fetching, onEnd: finishNow }
    this.#commandDeps = {
      backend,
      env,
      clock,
      log,
      makeReport,
      files,
      fetching,
      onLogAcked: (attempt, logIndex) => deps.outbox.mark(attempt.key, { seq: attempt.seq, logIndex }),
      onEnd: this.#finish.bind(this),
    }
    this.#agentDeps = {
      runtime: deps.agents,
      lane: deps.lane,
      asker: deps.asker,
      clock,
      deadlines: deps.deadlines,
      tracer: deps.tracer,
      makeReport,
      isLeaving: () => this.#draining,
      remember: (value) => deps.remember(value),
      onEnd: finishNow,
    }
  }

  get free(): number {
    return this.#draining ? 0 : Math.max(0, this.#deps.capacity - this.#running - this.#queue.length)
  }
  get busy(): boolean {
    return this.#held.size > 0 || this.#dying.size > 0
  }
  get counts(): { held: number; running: number; queued: number } {
    return { held: this.#held.size, running: this.#running, queued: this.#queue.length }
  }

  held(): HeldAttempt[] {
    const list: HeldAttempt[] = []
    for (const { assignment } of this.#held.values()) list.push({ step: assignment.step, fence: assignment.fence })
    return list
  }

  /** Takes assignments; those that are held or were finished here already are passed over. Ready functions run before this returns. */
  accept(assignments: readonly Assignment[]): void {
    for (const assignment of assignments) {
      const key = attemptKey(assignment.step, assignment.fence)
      if (this.#held.has(key) || this.#done.has(key)) {
        this.ignored++
        continue
      }
      const attempt = newAttempt(assignment)
      this.#held.set(key, attempt)
      if (attempt.redactor) for (const value of Object.values(attempt.secrets)) this.#deps.remember(value)
      if (this.#draining) this.#finish(attempt, { kind: 'returned' }, null)
      else this.#queue.push(attempt)
    }
    this.#startQueued()
    if (this.busy) this.#deps.onBusy()
  }

  cancel(orders: readonly CancelOrder[]): void {
    for (const { step, fence, reason } of orders) {
      const attempt = this.#held.get(attemptKey(step, fence))
      if (reason === 'attempt.stale_lease') {
        if (attempt) this.#abandon(attempt, reason)
      } else if (!attempt) this.#confirmUnknown(step, fence)
      else if (attempt.state === 'queued') {
        this.#queue = this.#queue.filter((other) => other !== attempt)
        this.#finish(attempt, { kind: 'canceled' }, null)
      } else if (attempt.state === 'running') this.#stop(attempt, 'canceled')
    }
  }

  /** A cancel that came before its assignment: confirmed, and the assignment will be passed over when it comes after all. */
  #confirmUnknown(step: string, fence: number): void {
    const key = attemptKey(step, fence)
    if (this.#done.has(key)) return
    const attempt = newAttempt(unknownAssignment(step, fence))
    this.#held.set(key, attempt)
    this.#finish(attempt, { kind: 'canceled' }, null)
    this.#deps.onBusy()
  }

  /** Gives back what waits for a slot, and from now on whatever comes. */
  drain(): void {
    if (this.#draining) return
    this.#draining = true
    const queued = this.#queue
    this.#queue = []
    for (const attempt of queued) this.#finish(attempt, { kind: 'returned' }, null)
    this.#idleWhenEmpty()
  }

  /** The server answered to a report. */
  settle(report: PendingReport, { outcome, failure }: Pick<ReportAck, 'outcome' | 'failure'>): void {
    const { attempt } = report
    if (attempt.gone) return
    switch (outcome) {
      case 'recorded':
      case 'duplicate':
        if (isEnd(report)) this.#release(attempt)
        else attempt.work?.logAcked(report)
        return
      case 'stale':
        this.#abandon(attempt, 'attempt.stale_lease')
        return
      case 'rejected':
        this.#deps.log.warn('report was rejected', {
          ...fieldsOf(attempt),
          kind: report.body.kind,
          code: failure?.code,
        })
        if (!isEnd(report)) attempt.work?.logAcked(report)
        else if (report.body.kind === 'failed') this.#release(attempt)
        else {
          const cause = failure ?? failureRecord('internal.bug', `recording the end of ${attempt.key}`)
          this.#deps.outbox.done(attempt.key)
          this.#reportEnd(attempt, { kind: 'failed', failure: cause }, report.endedAt)
        }
    }
  }

  /** Looks after everything that needs time: late starts, time-outs, functions that ignore their signal, log lines, the outbox. */
  sweep(): void {
    const now = this.#deps.clock.monotonic()
    const unsaved: PendingReport[] = []
    for (const attempt of this.#held.values()) {
      if (attempt.state === 'running') this.#sweepRunning(attempt, now)
      const end = attempt.endReport
      const isLate = end !== null && !end.onDisk && now - end.madeAt >= LIMITS.outboxAfterMs
      if (isLate && !attempt.work?.remembered) unsaved.push(end)
    }
    if (unsaved.length > 0) void this.#deps.outbox.save(unsaved)
    for (const attempt of this.#dying) this.#writeOffWhenDue(attempt, now)
  }

  #sweepRunning(attempt: Attempt, now: number): void {
    const { timeoutMs, work } = attempt.assignment
    const isLate = timeoutMs !== null && work.kind !== 'command' && now - attempt.runningSince >= timeoutMs
    if (isLate && attempt.stopReason === null) this.#stop(attempt, 'timed_out')
    this.#writeOffWhenDue(attempt, now)
    if (attempt.state === 'running') attempt.work?.refresh()
    const { startedAt, startReported } = attempt
    if (attempt.state === 'running' && !startReported && startedAt !== null && now - startedAt >= SHOW_START_MS) {
      attempt.startReported = true
      this.#report(attempt, { kind: 'started' }, 0)
    }
  }

  #writeOffWhenDue(attempt: Attempt, now: number): void {
    if (attempt.graceEndsAt === null || now < attempt.graceEndsAt || attempt.state !== 'running') return
    this.#deps.log.warn('work ignores its abort signal; its slot is given on', fieldsOf(attempt))
    this.#finish(attempt, { kind: 'canceled' }, now)
  }

  /** The session is over: functions stop, commands wait for what the next session says, ends already made will still be told. */
  sessionEnded(): void {
    for (const attempt of this.#held.values()) {
      const isCommand = attempt.assignment.work.kind === 'command'
      if (attempt.state === 'queued' || (attempt.state === 'running' && !isCommand)) {
        this.#abandon(attempt, 'attempt.stale_lease')
      }
    }
  }

  /** A session is open: what runs and was not adopted by it stops. */
  registered(adopted: readonly HeldAttempt[]): void {
    const keys = new Set(adopted.map(({ step, fence }) => attemptKey(step, fence)))
    for (const attempt of this.#held.values()) {
      if (attempt.state === 'running' && !keys.has(attempt.key)) this.#abandon(attempt, 'attempt.stale_lease')
    }
    if (this.busy) this.#deps.onBusy()
  }

  /** Takes up what an earlier life left: commands that the backend found again, and end reports of the outbox. */
  restore(commands: readonly { assignment: Assignment; handle: CommandHandle }[]): void {
    const { outbox, clock } = this.#deps
    for (const { assignment, handle } of commands) {
      const attempt = newAttempt(assignment)
      const mark = outbox.markOf(attempt.key)
      const logIndex = mark?.logIndex ?? 0
      attempt.seq = (mark?.seq ?? 0) + ADOPTED_SEQ_GAP
      outbox.mark(attempt.key, { seq: attempt.seq, logIndex })
      attempt.state = 'running'
      attempt.runningSince = clock.monotonic()
      this.#running++
      this.#held.set(attempt.key, attempt)
      attempt.work = inScope(new AttemptScope(attempt), () =>
        adoptCommand(attempt, handle, logIndex, this.#commandDeps),
      )
    }
    const offset = clock.monotonic() - clock.now()
    for (const [key, { assignment, seq, startedAt, endedAt, body }] of outbox.ends) {
      if (this.#held.has(key)) continue
      const attempt = newAttempt(assignment)
      attempt.state = 'ended'
      attempt.seq = seq - 1
      attempt.startedAt = startedAt === null ? null : startedAt + offset
      this.#held.set(key, attempt)
      this.#reportEnd(attempt, body, endedAt === null ? null : endedAt + offset, { onDisk: true })
    }
  }

  /** The process leaves at once. Functions are aborted; commands go on when `keepCommands`, else they are canceled. Gives the ends to save. */
  leave({ keepCommands }: { keepCommands: boolean }): PendingReport[] {
    const unsaved: PendingReport[] = []
    for (const attempt of this.#held.values()) {
      const isCommand = attempt.assignment.work.kind === 'command'
      if (attempt.endReport && !attempt.work?.remembered) unsaved.push(attempt.endReport)
      if (attempt.state !== 'running') continue
      if (isCommand && keepCommands) attempt.work?.detach()
      else this.#abandon(attempt, 'worker_stopped')
    }
    return unsaved
  }

  /** Resolves when commands that were canceled have ended: the process may go then without leaving any behind. */
  async gone(): Promise<void> {
    const ends = [...this.#dying].map((attempt) => attempt.work?.ended)
    await Promise.all(ends)
  }

  #startQueued(): void {
    // A function that ends at once comes back here: the loop below then goes on instead of going deeper.
    if (this.#starting) return
    this.#starting = true
    while (this.#running < this.#deps.capacity) {
      const attempt = this.#queue.shift()
      if (!attempt) break
      this.#running++
      attempt.state = 'running'
      attempt.runningSince = this.#deps.clock.monotonic()
      if (attempt.assignment.work.kind === 'function') {
        attempt.startedAt = attempt.runningSince
        attempt.work = inScope(new AttemptScope(attempt), () => startFunction(attempt, this.#functionDeps))
      } else if (attempt.assignment.work.kind === 'command')
        attempt.work = inScope(new AttemptScope(attempt), () => startCommand(attempt, this.#commandDeps))
      else {
        attempt.startedAt = attempt.runningSince
        attempt.work = inScope(new AttemptScope(attempt), () => startAgent(attempt, this.#agentDeps))
      }
    }
    this.#starting = false
  }

  #stop(attempt: Attempt, reason: StopReason): void {
    if (attempt.stopReason !== null) {
      // A cancel is told even when the time ran out first.
      if (reason === 'canceled' && attempt.stopReason === 'timed_out') attempt.stopReason = reason
      return
    }
    attempt.stopReason = reason
    const graceMs = attempt.work?.graceMs ?? null
    attempt.graceEndsAt = graceMs === null ? null : this.#deps.clock.monotonic() + graceMs
    attempt.work?.abort()
  }

  #finish(attempt: Attempt, outcome: Outcome, endedAt: number | null): void {
    // Written off before: the late result is dropped.
    if (attempt.state === 'ended') return
    if (attempt.state === 'running') this.#running--
    attempt.state = 'ended'
    this.finished++
    this.#observeEnd(attempt, outcome, endedAt)
    this.#dying.delete(attempt)
    if (!attempt.gone) {
      if (attempt.redactor && outcome.kind === 'failed')
        outcome = failed(redactFailure(attempt.redactor, outcome.failure))
      const bytes = outcome.kind === 'succeeded' ? outcome.bytes : 1_000
      this.#reportEnd(attempt, endOf(attempt, outcome, endedAt), endedAt, { bytes })
    }
    this.#startQueued()
    if (attempt.gone) this.#idleWhenEmpty()
  }

  #observeEnd(attempt: Attempt, outcome: Outcome, endedAt: number | null): void {
    const { metrics, tracer, clock, worker } = this.#deps
    if (endedAt === null || (!metrics && !tracer?.isOn)) return
    const kind = attempt.assignment.work.kind
    const ms = Math.max(0, endedAt - (attempt.startedAt ?? attempt.runningSince))
    metrics?.observe('orrery_worker_attempt_seconds', ms / 1000, { kind, outcome: outcome.kind })
    if (!tracer?.isOn || !tracer.samplesChild(new AttemptScope(attempt).parent)) return
    const end = clock.now() - (clock.monotonic() - endedAt)
    const failure = outcome.kind === 'failed' ? outcome.failure.code : null
    tracer.record(spanOfAttempt(attempt, { worker, startedAt: end - ms, endedAt: end, outcome: outcome.kind, failure }))
  }

  #reportEnd(
    attempt: Attempt,
    body: EndBody,
    endedAt: number | null,
    { bytes = 1_000, onDisk = false }: { bytes?: number; onDisk?: boolean } = {},
  ): void {
    const size = body.kind === 'failed' ? JSON.stringify(body.failure).length : bytes
    attempt.endReport = this.#report(attempt, body, size, { endedAt, onDisk })
  }

  #report(
    attempt: Attempt,
    body: ReportBody,
    bytes: number,
    { endedAt = null, onDisk = false }: { endedAt?: number | null; onDisk?: boolean } = {},
  ): PendingReport {
    const seq = ++attempt.seq
    const madeAt = this.#deps.clock.monotonic()
    const size = bytes + 200
    const { startedAt } = attempt
    const report = { attempt, seq, body, startedAt, endedAt, madeAt, bytes: size, sent: false, onDisk }
    if (!attempt.gone) this.#deps.send(report)
    return report
  }

  /** The step is no longer ours: nothing more is said about it, and the work stops. */
  #abandon(attempt: Attempt, why: 'attempt.stale_lease' | 'worker_stopped'): void {
    if (attempt.gone) return
    this.#deps.log.info('attempt given up', { ...fieldsOf(attempt), why })
    attempt.gone = true
    if (attempt.state === 'running') {
      // Before its signal is given: work may end on it at once, and then leaves this set.
      this.#dying.add(attempt)
      this.#stop(attempt, 'stale')
    } else if (attempt.state === 'queued') {
      this.#queue = this.#queue.filter((other) => other !== attempt)
      attempt.state = 'ended'
    }
    this.#forget(attempt, { failed: false })
  }

  #release(attempt: Attempt): void {
    this.#forget(attempt, { failed: attempt.endReport?.body.kind === 'failed' })
  }

  #forget(attempt: Attempt, outcome: { failed: boolean }): void {
    attempt.gone = true
    this.#held.delete(attempt.key)
    this.#done.add(attempt.key)
    this.#deps.outbox.done(attempt.key)
    attempt.work?.release(outcome)
    this.#idleWhenEmpty()
  }

  #idleWhenEmpty(): void {
    if (!this.busy) this.#deps.onIdle()
  }
}

function endOf(attempt: Attempt, outcome: Outcome, endedAt: number | null): EndBody {
  if (attempt.stopReason === 'canceled') return { kind: 'canceled' }
  const { timeoutMs, work, name, runId } = attempt.assignment
  const elapsedMs = endedAt === null ? 0 : endedAt - attempt.runningSince
  if (work.kind !== 'command' && timeoutMs !== null && elapsedMs >= timeoutMs) {
    const evidence = { timeoutMs, elapsedMs: Math.round(elapsedMs) }
    return {
      kind: 'failed',
      failure: failureRecord('step.timed_out', `running step ${name} of ${runId}`, { evidence }),
    }
  }
  return outcome.kind === 'succeeded' ? { kind: 'succeeded', output: outcome.output } : outcome
}

/** Stands for an assignment that never arrived, so that its cancel can be confirmed. */
function unknownAssignment(step: string, fence: number): Assignment {
  return {
    step,
    fence,
    runId: step.split('.')[0] ?? step,
    name: step,
    workflow: '',
    namespace: '',
    tries: 0,
    timeoutMs: null,
    repeatable: true,
    path: [],
    outputSchema: null,
    work: { kind: 'function', function: '', input: null },
  }
}
