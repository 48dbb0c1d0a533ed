import type { Report, ReportAck, ReportRequest, ReportResponse } from '../contract/exchange.ts'
import type { Happening } from '../domain/advance/happenings.ts'
import { failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isJournaled } from '../domain/workflow.ts'
import { closeCallApprovals } from '../store/approvals/call-approvals.ts'
import { appendSegments, type NewSegment } from '../store/logs/logs.ts'
import { findOrigins, type RunOrigin } from '../store/runs/read-runs.ts'
import { type CompletedRows, type Completion, completeSteps, type SessionRoom } from '../store/steps/complete-steps.ts'
import { findAttemptFates } from '../store/steps/find-steps.ts'
import { heldKey } from '../store/steps/held-key.ts'
import { recordStarts, type Start } from '../store/steps/record-starts.ts'
import type { Batcher } from './batcher.ts'
import type { EngineContext } from './context.ts'
import type { Dispatcher } from './dispatcher.ts'
import { noteRunEnded } from './observe.ts'
import { groupCommit } from './group-commit.ts'
import type { Caller } from './engine.ts'
import type { WorkerSession } from './sessions.ts'
import { settleRun } from './settle.ts'
import { parseStepId, type StepAddress, stepIdOf } from './step-id.ts'

type Outcome = Pick<ReportAck, 'outcome' | 'failure'>
type Addressed<R extends Report = Report> = { report: R; at: StepAddress & { fence: number } }

/** What a column of whole milliseconds holds; 23 days. */
const AGO_MAX_MS = 2_000_000_000
/** How long ago something was, as it is stored. */
const agoOf = (ms: number): number => Math.min(AGO_MAX_MS, Math.max(0, Math.round(ms)))

const RECORDED: Outcome = { outcome: 'recorded' }
const STALE: Outcome = { outcome: 'stale' }
const NO_ORIGINS: ReadonlyMap<string, RunOrigin> = new Map()

/** Whether a success may at once lead to another step. An activation only moves its forEach. */
const goesOn = ({ path, facts }: Pick<Completion, 'path' | 'facts'>): boolean =>
  path === '' && facts.dependents.length > 0

/** Takes the reports of workers: successes by the hot path, the rest by the pure function, all by group commit. */
export class Reporter {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #completions: Batcher<Completion, boolean>
  readonly #starts: Batcher<Start, boolean>
  readonly #segments: Batcher<NewSegment, boolean>

  constructor(ctx: EngineContext, dispatcher: Dispatcher) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#completions = groupCommit(ctx, 'complete', (items) => this.#complete(items))
    this.#starts = groupCommit(ctx, 'start', async (items) => {
      const held = await recordStarts(ctx.db, items)
      for (const run of new Set(items.map((i) => i.runId))) ctx.watch.notify(run)
      return items.map((i) => held.has(heldKey(i)))
    })
    this.#segments = groupCommit(ctx, 'log', async (items) => {
      const held = await appendSegments(ctx.db, items)
      for (const run of new Set(items.map((i) => i.runId))) ctx.watch.notify(run)
      return items.map((i) => held.has(heldKey(i)))
    })
  }

  async report(caller: Caller, request: ReportRequest): Promise<ReportResponse> {
    const session = await this.#dispatcher.workers.session(caller, request.session)
    if (session === 'ended') {
      const acks = request.reports.map((r) => ({ step: r.step, fence: r.fence, seq: r.seq, ...STALE }))
      return { sessionState: 'ended', acks, assignments: [], cancels: [], drain: false }
    }
    session.draining = request.draining
    if (request.draining && request.reports.length === 0 && session.owned.size === 0) {
      await this.#dispatcher.workers.leave(session)
      return { sessionState: 'ended', acks: [], assignments: [], cancels: [], drain: false }
    }
    const acks = await this.#takeAll(session, request.reports)
    await this.#dispatcher.claimFor(session)
    if (session.ended) return { sessionState: 'ended', acks, assignments: [], cancels: [], drain: false }
    return { sessionState: 'live', acks, ...this.#dispatcher.takeOrders(session, 'report') }
  }

  async #takeAll(session: WorkerSession, reports: readonly Report[]): Promise<ReportAck[]> {
    const outcomes = new Map<Report, Promise<Outcome>>()
    const perRun = new Map<string, Addressed[]>()
    const origins = await this.#originsOf(session, reports)
    for (const report of reports) {
      const address = parseStepId(report.step)
      if (!address) {
        outcomes.set(
          report,
          Promise.resolve({
            outcome: 'rejected',
            failure: failureRecord('request.invalid', `reading the step id ${report.step.slice(0, 80)}`),
          }),
        )
        continue
      }
      const at = { ...address, fence: report.fence }
      const owned = session.owned.get(`${report.step}@${report.fence}`)
      if (owned) owned.confirmed = true
      if (report.kind === 'succeeded') outcomes.set(report, this.#succeeded(session, { report, at }, origins))
      else if (report.kind === 'started') outcomes.set(report, this.#started(session, { report, at }))
      else if (report.kind === 'log') outcomes.set(report, this.#logged(session, { report, at }))
      else perRun.set(at.runId, [...(perRun.get(at.runId) ?? []), { report, at }])
    }
    for (const [runId, items] of perRun) {
      const settled = this.#settled(session, runId, items)
      for (const [i, item] of items.entries())
        outcomes.set(
          item.report,
          settled.then((o) => o[i] ?? STALE),
        )
    }
    const acks = reports.map(async (r) => {
      const outcome = (await outcomes.get(r)) ?? STALE
      return { step: r.step, fence: r.fence, seq: r.seq, ...outcome }
    })
    // Beside the recording, not after it, for the slots that are free already.
    const [taken] = await Promise.all([Promise.all(acks), this.#dispatcher.claimFor(session)])
    return taken
  }

  /** Where runs come from whose steps this server did not lease itself. */
  async #originsOf(session: WorkerSession, reports: readonly Report[]): Promise<ReadonlyMap<string, RunOrigin>> {
    const unknown = reports.flatMap((r) => {
      const isKnown = session.owned.get(`${r.step}@${r.fence}`)?.definition
      const address = r.kind === 'succeeded' && !isKnown ? parseStepId(r.step) : null
      return address ? [address.runId] : []
    })
    return unknown.length > 0 ? findOrigins(this.#ctx.db, [...new Set(unknown)]) : NO_ORIGINS
  }

  async #succeeded(
    session: WorkerSession,
    { report, at }: Addressed<Extract<Report, { kind: 'succeeded' }>>,
    origins: ReadonlyMap<string, RunOrigin>,
  ): Promise<Outcome> {
    const output = JSON.stringify(report.output)
    const bytes = Buffer.byteLength(output)
    if (bytes > LIMITS.outputBytes) {
      return {
        outcome: 'rejected',
        failure: failureRecord('output.too_large', `recording the output of ${report.step}`, {
          evidence: { bytes, limit: LIMITS.outputBytes },
        }),
      }
    }
    const owned = session.owned.get(`${report.step}@${report.fence}`)
    const definition = owned?.definition ?? origins.get(at.runId)?.definition
    if (!definition) return STALE
    const compiled = this.#ctx.definitions.peek(definition) ?? (await this.#ctx.definitions.get(definition))
    const facts = compiled.facts[at.node]
    if (!facts) return STALE
    // What follows is leased to the slot that this one frees; where nothing follows, it is free for others at once.
    const isLast = owned !== undefined && !goesOn({ path: at.path, facts })
    if (isLast) session.ending += 1
    const recording = this.#completions.add({
      ...at,
      session: session.id,
      worker: session.worker,
      definition,
      trace: owned?.assignment?.traceparent ?? origins.get(at.runId)?.trace ?? null,
      facts,
      output,
      startedAgoMs: agoOf(report.startedAgoMs ?? report.endedAgoMs ?? 0),
      endedAgoMs: agoOf(report.endedAgoMs ?? 0),
    })
    const recorded = await recording.finally(() => {
      if (isLast) session.ending -= 1
    })
    session.disown(report.step, report.fence)
    if (recorded) return RECORDED
    return this.#fate(session, { report, at })
  }

  /** The hot path found nothing to write: why? A run that is being stopped is for the pure function. */
  async #fate(session: WorkerSession, { report, at }: Addressed): Promise<Outcome> {
    const [fate] = await findAttemptFates(this.#ctx.db, [{ ...at, session: session.id }])
    if (!fate) return STALE
    if (fate.mine && fate.state === 'running' && fate.stopping)
      return (await this.#settled(session, at.runId, [{ report, at }]))[0] ?? STALE
    return (fate.mine && fate.state === 'succeeded') || fate.archived ? { outcome: 'duplicate' } : STALE
  }

  async #complete(items: Completion[]): Promise<boolean[]> {
    // The same report twice in one flush: the statement would see the row once, and so does the second sender.
    const unique = new Map<string, Completion>()
    for (const item of items) if (!unique.has(heldKey(item))) unique.set(heldKey(item), item)
    const rooms = this.#rooms([...unique.values()])
    for (const [session, { spare }] of rooms) session.reserved += spare
    let rows: CompletedRows
    try {
      rows = await completeSteps(
        this.#ctx.db,
        [...unique.values()],
        [...rooms].map(([session, { ended, spare }]): SessionRoom => ({
          session: session.id,
          slots: ended + spare,
          queues: session.directQueues,
        })),
        { inlineOutputBytes: LIMITS.inlineOutputBytes, graceMs: this.#ctx.times.deadlineGraceMs },
      )
      await this.#dispatcher.hand(rows.leased)
    } catch (error) {
      // Perhaps it was done and only its answer was lost.
      this.#dispatcher.onDoubt()
      throw error
    } finally {
      for (const [session, { spare }] of rooms) session.reserved -= spare
    }
    this.#after(items, rows)
    await this.#closeCalls([...unique.values()].filter((item) => rows.done.has(heldKey(item))))
    return items.map((item) => rows.done.has(heldKey(item)))
  }

  /** Nobody has to decide any more about the calls of agents that have ended. Should it be cut short, a tick makes up for it. */
  async #closeCalls(done: readonly Completion[]): Promise<void> {
    const nodeOf = ({ definition, node }: Completion) => this.#ctx.definitions.peek(definition)?.definition.nodes[node]
    const ended = done.filter((item) => isJournaled(nodeOf(item)))
    if (ended.length === 0) return
    await closeCallApprovals(this.#ctx.db, ended).catch((error: unknown) =>
      this.#ctx.log.warn('approvals of calls left open for now', { error: String(error) }),
    )
  }

  /** Slots of each reporting session: what its reports free, and what is free already. */
  #rooms(items: readonly Completion[]): Map<WorkerSession, { ended: number; spare: number }> {
    const rooms = new Map<WorkerSession, { ended: number; spare: number }>()
    for (const item of items) {
      const session = this.#dispatcher.workers.get(item.session)
      if (!session || session.draining || session.ended) continue
      const room = rooms.get(session) ?? { ended: 0, spare: session.free }
      // What this server does not count as the session's frees no slot; where nothing follows it is among the spare ones.
      if (goesOn(item) && session.owned.has(`${stepIdOf(item)}@${item.fence}`)) room.ended += 1
      rooms.set(session, room)
    }
    return rooms
  }

  #after(items: readonly Completion[], rows: CompletedRows): void {
    const { metrics, watch } = this.#ctx
    metrics.count('orrery_steps_ended_total', rows.done.size, { state: 'succeeded' })
    metrics.count('orrery_attempts_ended_total', rows.done.size, { outcome: 'succeeded' })
    for (const run of new Set(items.map((i) => i.runId))) watch.notify(run)
    for (const run of rows.ended) {
      noteRunEnded(this.#ctx, run.runId, run.state)
      if (this.#ctx.children.take(run.runId)) this.#ctx.tickWithin(0)
    }
    const oldest = items.reduce((id, item) => (item.runId < id ? item.runId : id), items[0]?.runId ?? '')
    this.#dispatcher.hint(rows.queued, oldest)
    const owed = new Map<string, Happening[]>()
    for (const { runId, node, path } of rows.owed)
      owed.set(runId, [...(owed.get(runId) ?? []), { type: 'due', node, path }])
    for (const [runId, happenings] of owed) {
      // Not waited for: the reporter is not the one who needs it. Should it fail, the due time is in the row and a tick looks again.
      settleRun(this.#ctx, runId, happenings).then(
        (s) => this.#dispatcher.hintSettled(runId, s),
        (error: unknown) => this.#ctx.log.warn('decision put off to the next tick', { runId, error: String(error) }),
      )
    }
  }

  async #started(session: WorkerSession, { report, at }: Addressed): Promise<Outcome> {
    const held = await this.#starts.add({
      ...at,
      session: session.id,
      startedAgoMs: agoOf(report.startedAgoMs ?? 0),
    })
    return held ? RECORDED : STALE
  }

  async #logged(session: WorkerSession, { report, at }: Addressed<Extract<Report, { kind: 'log' }>>): Promise<Outcome> {
    const held = await Promise.all(
      report.segments.map((s) =>
        this.#segments.add({
          ...at,
          session: session.id,
          index: s.index,
          stream: s.stream,
          agoMs: agoOf(s.agoMs),
          text: s.text,
        }),
      ),
    )
    return held.every(Boolean) ? RECORDED : STALE
  }

  async #settled(session: WorkerSession, runId: string, items: readonly Addressed[]): Promise<Outcome[]> {
    // That it began belongs in the history, also when it failed at once.
    const began = items.filter((i) => i.report.startedAgoMs !== null)
    await Promise.all(began.map((i) => this.#started(session, i)))
    const happenings = items.map(({ report, at }): Happening => {
      const common = { node: at.node, path: at.path, fence: at.fence, session: session.id }
      switch (report.kind) {
        case 'failed':
          return { ...common, type: 'attempt_failed', failure: report.failure }
        case 'canceled':
          return { ...common, type: 'attempt_canceled' }
        case 'parked':
          return { ...common, type: 'attempt_parked', on: report.on }
        case 'succeeded':
          return { ...common, type: 'attempt_succeeded', output: report.output }
        default:
          return { ...common, type: 'attempt_returned' }
      }
    })
    const settled = await settleRun(this.#ctx, runId, happenings)
    for (const { report } of items) session.disown(report.step, report.fence)
    if (!settled) return items.map(() => STALE)
    this.#dispatcher.hintSettled(runId, settled)
    if (settled.stopping) this.#ctx.tickWithin(0)
    if (settled.stale.length === 0) return items.map(() => RECORDED)
    const fates = await findAttemptFates(
      this.#ctx.db,
      items.map((i) => ({ ...i.at, session: session.id })),
    )
    return items.map((item, i) => {
      if (!settled.stale.includes(happenings[i] as Happening)) return RECORDED // one happening was made per item
      const fate = fates.find((f) => f.node === item.at.node && f.path === item.at.path && f.fence === item.at.fence)
      return fate?.archived ? { outcome: 'duplicate' } : STALE
    })
  }
}
