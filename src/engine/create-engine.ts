import { createEgress } from '../agents/index.ts'
import { createDeadlines } from '../base/deadlines.ts'
import type { JsonObject } from '../base/json.ts'
import type { RunSummary } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { plainNamespace } from '../domain/tenancy.ts'
import { TokenCache } from './token-cache.ts'
import { recordAudit } from '../store/audit/audit.ts'
import { putDefinition } from '../store/definitions/put-definition.ts'
import { askedBy, createAccess, entryIn } from './access.ts'
import { readAgentContext } from './agents/agent-context.ts'
import { listRunArtifacts, openRunArtifact, takeArtifacts, takeChunk } from './artifacts.ts'
import { takeExports } from './exports.ts'
import { Appender } from './agents/append.ts'
import { readJournal, showJournal } from './agents/read-journal.ts'
import { listWanted, readWanted } from './wanted-files.ts'
import { decideApproval, getApproval, listApprovals } from './approvals.ts'
import { cancelRun, skipStep } from './by-hand.ts'
import type { EngineContext, EngineDeps, EngineTimes } from './context.ts'
import { createBinder } from './bind.ts'
import { Creator } from './creator.ts'
import { Accountant } from './budgets/accountant.ts'
import { BudgetDesk } from './budgets/budget-desk.ts'
import { createDefinitionCache, createQueueRegistry } from './definitions.ts'
import { Dispatcher } from './dispatcher.ts'
import type { Caller, Engine } from './engine.ts'
import { examineServer } from './examine-server.ts'
import { type Hint, Hints } from './hints.ts'
import { checkAgent } from './agents/check-agent.ts'
import { RuleGate } from './agents/rule-gate.ts'
import { AgentMemory } from './memory/agent-memory.ts'
import { Memories } from './memory/memories.ts'
import { Models } from './models.ts'
import { listWorkers } from './list-workers.ts'
import { nudgeRun } from './nudge.ts'
import { createReads } from './reads.ts'
import { RecentRuns } from './recent-runs.ts'
import { RefusedTokens } from './refused-tokens.ts'
import { Reporter } from './reporter.ts'
import { retryRun, retryStep } from './retry.ts'
import { readStatus } from './status.ts'
import { RunSpans } from './run-spans.ts'
import { createStats, type EngineStats } from './stats.ts'
import { createResources } from './resources/create-resources.ts'
import { refuseSealing } from './resources/sealing.ts'
import { sealSecrets } from './resources/seal-secrets.ts'
import { Secrets } from './secrets.ts'
import { sendEvent } from './send-event.ts'
import type { Settled } from './settle.ts'
import { Ticker } from './ticks.ts'
import { createWatch } from './watch.ts'
import { canSee, reach, reachWithin, shownReach } from './visible.ts'

export const DEFAULT_TIMES: EngineTimes = {
  leaseMs: LIMITS.leaseMs,
  heartbeatMs: LIMITS.heartbeatMs,
  pollMs: LIMITS.pollMs,
  tickMs: LIMITS.tickMs,
  acknowledgeMs: LIMITS.acknowledgeMs,
  dispatchGraceMs: LIMITS.dispatchGraceMs,
  stallMs: LIMITS.stallMs,
  deadlineGraceMs: LIMITS.killGraceMs + 10_000,
}

const NOT_WRITTEN = 'refused tokens not written to the audit log'
/** How often runs that another server moves are looked at for those who wait for them here. */
const WATCH_MS = 250

export interface RunningEngine extends Engine {
  /** One round of what keeps time; for tests and the loop. Gives ms until the next. */
  tick(): Promise<number>
  /** Keeps time until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
  /** For whoever looks at the server from outside. */
  stats(): Promise<EngineStats>
}

/** An engine over a migrated store. Nothing runs by itself until `run` is called. */
export function createEngine(deps: EngineDeps): RunningEngine {
  let wakeTicker: () => void = () => {}
  let nextWithin = Infinity
  const deadlines = createDeadlines(deps.clock)
  const secrets = new Secrets(deps.db, deps.secrets)
  const gate = new RuleGate(deps)
  const accountant = new Accountant(deps)
  const definitions = createDefinitionCache(deps.db, {
    refresh: (on) => ctx.queues.refresh(on),
    all: () => ctx.queues.all(),
    idOf: (r) => ctx.queues.idOf(r),
  })
  const ctx: EngineContext = {
    ...deps,
    gate: deps.gate ?? gate,
    queues: createQueueRegistry(deps.db, () => dispatcher.workers.resubscribe()),
    definitions,
    binder: createBinder({ db: deps.db, definitions }),
    watch: createWatch(deadlines),
    secretResolver: secrets.resolver,
    sealing: deps.secrets ? sealSecrets(deps.secrets) : refuseSealing,
    deadlines,
    children: new RecentRuns(),
    budgets: deps.budgets ?? accountant,
    withUse: (views) => desk.withUse(views),
    budgetsHolding: (runId, names) => desk.holding(runId, names),
    tickWithin(ms) {
      nextWithin = Math.min(nextWithin, ms)
      wakeTicker()
    },
  }
  const desk: BudgetDesk = new BudgetDesk(ctx, accountant)
  const dispatcher: Dispatcher = new Dispatcher(ctx)
  const creator = new Creator(ctx, dispatcher)
  const reporter = new Reporter(ctx, dispatcher)
  const appender = new Appender(ctx, dispatcher)
  const tokens = new TokenCache(deps.db, deps.clock)
  const refused = new RefusedTokens(deps.ids)
  const ticker = new Ticker(ctx, dispatcher, tokens, refused)
  const hints = new Hints(ctx)
  const reads = createReads(ctx)
  const runSpans = new RunSpans(ctx)
  const resources = createResources(ctx)
  const egress = deps.egress ?? createEgress()
  const models = new Models(ctx, { secrets, resources, gate: ctx.gate, egress })
  const memories = new Memories(ctx, { models, resources, egress })
  const agentMemory = new AgentMemory(ctx, dispatcher, memories)
  ctx.onRunEnded = (runId) => runSpans.add(runId)
  const watchSeen = new Map<string, number>()

  hints.isAlone = () => ticker.servers <= 1
  ticker.deafMs = () => hints.deafMs()
  ticker.onUpkeep = () => desk.look()
  ticker.onRest = () => desk.rest()
  ticker.onListenCheck = () => void hints.probe().catch(() => {})
  dispatcher.onDoubt = () => ticker.doubt()
  dispatcher.onUnserved = (queues, from) => hints.send({ queues, from })

  /** What a change by hand made possible is offered to workers. */
  const pass = (settled: Settled | null): void => {
    dispatcher.hint(settled?.queued ?? [], null)
  }

  const tick = async (): Promise<number> => {
    nextWithin = Infinity
    const from = deps.clock.monotonic()
    let result: 'ok' | 'failed' = 'failed'
    try {
      const next = await ticker.tick()
      result = 'ok'
      return Math.min(next, nextWithin)
    } finally {
      deps.metrics.count('orrery_ticks_total', 1, { result })
      deps.metrics.observe('orrery_tick_seconds', (deps.clock.monotonic() - from) / 1000)
    }
  }

  const tickLoop = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      let wait: number
      try {
        wait = await tick()
      } catch (error) {
        deps.log.warn('tick failed', { err: error })
        wait = deps.times.tickMs
      }
      const asked = Promise.withResolvers<void>()
      const stop = new AbortController()
      wakeTicker = () => {
        if (nextWithin < wait) asked.resolve()
      }
      wakeTicker()
      await Promise.race([
        asked.promise,
        deps.clock.sleep(wait, AbortSignal.any([signal, stop.signal])).catch(() => {}),
      ])
      const soon = Math.min(nextWithin, wait)
      if (soon > 0 && soon < wait && !signal.aborted) await deps.clock.sleep(soon, signal).catch(() => {})
      stop.abort()
      wakeTicker = () => {}
    }
  }

  const watchLoop = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      await deps.clock.sleep(WATCH_MS, signal).catch(() => {})
      if (ticker.servers <= 1 || signal.aborted) continue
      await ticker
        .lookAtWatched(watchSeen)
        .catch((error: unknown) => deps.log.debug('cannot look at watched runs', { error: String(error) }))
    }
  }

  const noted = (caller: Caller, namespace: string, what: Parameters<typeof entryIn>[3]): Promise<void> =>
    recordAudit(deps.db, [entryIn(ctx, caller, namespace, what)])
  /** A run after a change by hand, which is written down beside it. */
  const changed = async (
    caller: Caller,
    runId: string,
    action: string,
    details: JsonObject = {},
  ): Promise<RunSummary> => {
    const run = await reads.getSummary(runId, reach(caller))
    await noted(caller, run.namespace, { action, object: runId, details })
    return run
  }

  return {
    resources,
    memories,
    useMemory: (caller, request) => agentMemory.answer(caller, request),
    askModel: (caller, at, ask, signal) => models.ask(caller, at, ask, signal),
    checkAgent: (caller, at, ask) => checkAgent({ ctx, gate, resources }, caller, at, ask),
    tick,
    stats: createStats(ctx, dispatcher),
    async run(signal) {
      const onHint = (hint: Hint) => {
        if (hint.queues.some((q) => !ctx.queues.all().has(q))) void ctx.queues.refresh().catch(() => {})
        dispatcher.hint(hint.queues, hint.from)
        for (const run of hint.runs) ctx.watch.notifyEnded(run)
        if (hint.stopping) ctx.tickWithin(0)
      }
      await Promise.all([tickLoop(signal), watchLoop(signal), hints.listen(onHint, signal)])
      await refused.flush(deps.db).catch((error: unknown) => deps.log.warn(NOT_WRITTEN, { error: String(error) }))
    },

    async putDefinition(caller, definition) {
      const { namespace, name } = definition
      if (!canSee(caller, namespace)) {
        throw new Failure('client.forbidden', `storing a workflow in namespace ${plainNamespace(namespace)}`, {
          evidence: { namespaces: shownReach(caller) },
          remediation:
            'Use a token that may see the namespace, or write one of those named with the failure into the manifest.',
        })
      }
      const hash = await putDefinition(deps.db, definition, {
        onNew: (tx, hash) =>
          recordAudit(tx, [
            entryIn(ctx, caller, namespace, { action: 'definitions.create', object: hash, details: { name } }),
          ]),
      })
      await ctx.definitions.get(hash)
      return { hash }
    },
    async getDefinition(caller, hash) {
      const { definition } = await ctx.definitions.get(hash)
      if (!canSee(caller, definition.namespace))
        throw new Failure('definition.not_found', `looking for definition ${hash}`)
      return {
        hash,
        namespace: definition.namespace,
        name: definition.name,
        nodes: definition.nodes.map((n) => ({
          name: n.name,
          kind: n.kind,
          needs: n.needs.map((i) => definition.nodes[i]?.name ?? ''),
        })),
        definition,
      }
    },
    createRuns: (caller, runs) => creator.create(caller, runs),
    getRun: async (caller, runId) => secrets.tellElsewhere(caller, await reads.getRun(runId, reach(caller))),
    listRuns: (caller, f) => {
      return reads.listRuns({ ...f, namespaces: reachWithin(caller, f.namespace) })
    },
    listSteps: (caller, runId, filter) => reads.listSteps(runId, reach(caller), filter),
    async cancelRun(caller, runId) {
      await cancelRun(ctx, runId, reach(caller))
      ctx.tickWithin(0)
      hints.send({ stopping: true, runs: [runId] })
      return changed(caller, runId, 'runs.cancel')
    },
    async retryRun(caller, runId) {
      const { queued } = await retryRun(ctx, runId, reach(caller))
      dispatcher.hint(queued, null)
      return changed(caller, runId, 'runs.retry')
    },
    async retryStep(caller, runId, step) {
      const { queued } = await retryStep(ctx, runId, step, reach(caller))
      dispatcher.hint(queued, null)
      return changed(caller, runId, 'runs.retry', { step })
    },
    async skipStep(caller, runId, step, output) {
      const { queued } = await skipStep(ctx, runId, step, output, reach(caller))
      dispatcher.hint(queued, null)
      return changed(caller, runId, 'runs.skip', { step })
    },
    listEvents: (caller, runId, afterSeq, limit) => reads.listEvents(runId, reach(caller), afterSeq, limit),
    async nudgeRun(caller, runId) {
      const { changed: moved, settled } = await nudgeRun(ctx, caller, runId)
      pass(settled)
      // What is queued is offered anew, and the tick looks at what runs below have come to.
      dispatcher.hint([...ctx.queues.all().keys()], null)
      ctx.tickWithin(0)
      const run = await reads.getRun(runId, reach(caller))
      const { stepList, inputs: _, definition: __, stalled: ___, waitsOn: ____, ...summary } = run
      const open = stepList.filter((s) => s.reason !== null)
      const waiting = open.map(({ name, state, reason }) => ({ step: name, state, reason }))
      await noted(caller, run.namespace, { action: 'runs.nudge', object: runId })
      return { run: summary, changed: moved, waiting: waiting.slice(0, LIMITS.waitsShownMax) }
    },
    async sendEvent(caller, runId, event) {
      const { view, settled } = await sendEvent(ctx, caller, runId, event)
      pass(settled)
      const { namespace } = await reads.getSummary(runId, reach(caller))
      await noted(caller, namespace, { action: 'events.send', object: runId, details: { event: event.name } })
      return view
    },
    listApprovals: (caller, f) =>
      listApprovals(ctx, { ...f, namespaces: reachWithin(caller, f.namespace), before: f.cursor }),
    getApproval: (caller, id) => getApproval(ctx, caller, id),
    async decideApproval(caller, id, wish) {
      const { view, settled } = await decideApproval(ctx, caller, id, wish)
      pass(settled)
      const action = wish.approved ? 'approvals.approve' : 'approvals.deny'
      const about = view.call ? { tool: view.call.tool, call: view.call.id, edited: view.call.edited !== null } : {}
      const details = { run: view.run, step: view.step, ...about }
      await noted(caller, view.namespace, { action, object: id, details })
      return view
    },
    followEvents: (caller, runId, afterSeq, signal) => reads.followEvents(runId, reach(caller), afterSeq, signal),
    waitForRun: async (caller, runId, waitMs, signal) =>
      secrets.tellElsewhere(caller, await reads.waitForRun(runId, reach(caller), waitMs, signal)),
    followLogs: (caller, runId, filter, signal) => reads.followLogs(runId, reach(caller), filter, signal),
    showJournal: (caller, at, page) => showJournal(ctx, reach(caller), at, page),
    listArtifacts: (caller, runId, page) => listRunArtifacts(ctx, reach(caller), runId, page),
    openArtifact: (caller, runId, file) => openRunArtifact(ctx, reach(caller), runId, file),
    async putSecret(caller, at, body) {
      const view = await secrets.put(caller, at, body)
      const details = { keys: Object.keys(body.values), replace: body.replace }
      await noted(caller, at.namespace, { action: 'secrets.set', object: at.secret, details })
      return view
    },
    listSecrets: (caller, filter) => secrets.list(caller, filter),
    getSecret: (caller, at, options) => secrets.get(caller, at, options),
    async deleteSecret(caller, at, options) {
      const gone = await secrets.delete(caller, at, options)
      const details = { keys: gone.deleted }
      await noted(caller, at.namespace, { action: 'secrets.delete', object: at.secret, details })
      return gone
    },
    async rotateSecrets(caller, options) {
      const rotated = await secrets.rotate(caller, options)
      const about = { organisation: caller.organisation }
      const what = { action: 'secrets.rotate', object: rotated.activeKey, outcome: 'done' as const }
      await recordAudit(deps.db, [{ ...askedBy(ctx, caller), about, ...what, details: { resealed: rotated.resealed } }])
      return rotated
    },
    listWorkers: (caller) => listWorkers(ctx, caller),
    getStatus: (caller) => readStatus(ctx, caller),
    listCosts: (caller, asked) => desk.costs(caller, asked),
    examine: (caller) =>
      examineServer(ctx, {
        caller,
        refusals: dispatcher.workers.refusals(),
        models: () => models.examine(caller),
        budgets: () => desk.examine(caller),
        hints,
      }),

    register: (caller, request) => dispatcher.workers.register(caller, request),
    async poll(caller, request, signal) {
      const response = await dispatcher.poll(caller, request, signal)
      const session = dispatcher.workers.get(request.session)
      // The connection was cut: perhaps because the process is gone, which on this host can be seen at once.
      if (
        signal.aborted &&
        session &&
        session.host === deps.host &&
        deps.isAlive(session.pid, session.pidStart) === false
      ) {
        await ticker.endDead([session.id])
        ctx.tickWithin(0)
      }
      return response
    },
    report: (caller, request) => reporter.report(caller, request),
    heartbeat: (caller, request) => dispatcher.workers.heartbeat(caller, request),
    takeArtifacts: (caller, request) => takeArtifacts(ctx, dispatcher, caller, request),
    takeChunk: (caller, request) => takeChunk(ctx, dispatcher, caller, request),
    takeExports: (caller, request) => takeExports(ctx, dispatcher, caller, request),
    listWanted: (caller, request) => listWanted(ctx, dispatcher, caller, request),
    readWanted: (caller, request) => readWanted(ctx, dispatcher, caller, request),
    readJournal: (caller, request) => readJournal(ctx, dispatcher, caller, request),
    append: (caller, request) => appender.append(caller, request),
    readAgentContext: (caller, request) => readAgentContext(ctx, dispatcher, caller, request),

    access: createAccess(ctx, tokens, refused),
    async authenticate(token) {
      const row = await tokens.find(token)
      return row && { actor: row.id, role: row.role, organisation: row.organisation, namespaces: row.reach }
    },
    async checkReady() {
      await deps.db.query('select 1')
    },
  }
}
