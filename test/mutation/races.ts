// Two connections at once, brought together at chosen points: races.ts DSN. Prints what is broken; exits with 1 when anything is.
import { createIds, deferred, silentLog, systemClock, systemRandom } from '../../src/base/index.ts'
import { compileWorkflow } from '../../src/domain/manifest.ts'
import { createEngine, DEFAULT_TIMES } from '../../src/engine/index.ts'
import { countWindows, type HeldCount, lockCounters, makeCounters } from '../../src/store/budgets/counters.ts'
import { recordSpending } from '../../src/store/budgets/spending.ts'
import { putDefinition } from '../../src/store/definitions/put-definition.ts'
import { type Db, migrate, openPostgres, type Queryable } from '../../src/store/index.ts'
import { appendAt, type AppendedAll } from '../../src/store/journal/append-at.ts'
import { appendEntries } from '../../src/store/journal/append-entries.ts'
import { holdSteps } from '../../src/store/journal/hold-steps.ts'
import { readResourceClock } from '../../src/store/resources/resource-clock.ts'
import { createRuns } from '../../src/store/runs/create-runs.ts'
import { endSessions, openSession } from '../../src/store/sessions/sessions.ts'
import { claimSteps } from '../../src/store/steps/claim-steps.ts'
import { completeSteps, type Completion, type LeasedStep } from '../../src/store/steps/complete-steps.ts'

const OPTIONS = { inlineOutputBytes: 8192, graceMs: 10_000 }
const GIVE_UP_MS = 20_000

const ids = createIds(systemClock, systemRandom)
const broken: string[] = []
const dsn = process.argv[2] ?? ''
const db = openPostgres({ dsn, connections: 8, log: silentLog })

function hold(is: boolean, text: string): void {
  if (!is) broken.push(text)
}

/** Steps a and b, both needed by c. */
async function makeRuns(count: number): Promise<{ runs: string[]; session: string; leased: LeasedStep[] }> {
  const step = (name: string, needs: string[]) => ({ name, needs, function: 'm.f', with: {} })
  const name = `race-${ids.make('event').slice(-8)}`
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name },
    spec: { modules: { m: './m.ts' }, steps: [step('a', []), step('b', []), step('c', ['a', 'b'])] },
  })
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  const definition = await putDefinition(db, compiled.definition)
  const rows = Array.from({ length: count }, () => ({
    ...{ id: ids.make('run'), namespace: 'default', workflow: name, definition, inputs: '{}', labels: '{}' },
    ...{ nodes: 3, roots: 2, changes: '[]', idempotency: null, born: null, createdBy: 'tok' },
  }))
  await createRuns(db, rows, 0)
  const session = await makeSession()
  const queues = (await db.query<{ id: number }>(`select id from queue`)).map((q) => q.id)
  const leased = await claimSteps(db, { session, queues, limit: 2 * count, from: rows[0]?.id ?? '', graceMs: 0 })
  return { runs: rows.map((r) => r.id), session, leased }
}

async function makeSession(): Promise<string> {
  const id = ids.make('session')
  const offer = { labels: {}, namespaces: null, backends: ['function'], modules: ['m'] }
  const who = { worker: 'w', tokenId: 't', host: 'h', pid: 1, pidStart: null, version: '0' }
  await openSession(db, { ...offer, ...who, id, capacity: 10, clockSkewMs: 0 }, 60_000)
  return id
}

/** The report of one of the leased steps. */
function reportOf(leased: readonly LeasedStep[], runId: string | undefined, node: number): Completion {
  const step = leased.find((s) => s.runId === runId && s.node === node)
  if (!step) throw new Error(`step ${runId}.${node} was not leased`)
  const { session, fence, definition } = step
  // a and b are both needed by c.
  const join = { node: 2, name: 'c', queueId: 0, decided: false, timeoutMs: null, queueTimeoutMs: null }
  const facts = { name: node === 0 ? 'a' : 'b', dependents: [join] }
  const word = { output: '{}', startedAgoMs: 0, endedAgoMs: 0, worker: 'w' }
  return { runId: step.runId, node, path: '', session, fence, definition, facts, ...word }
}

async function rowOf(runId: string | undefined, node: number): Promise<{ state: string; ok: number }> {
  const rows = await db.query<{ state: string; ok: number }>(
    `select state, ok from step where run_id = $1 and node = $2`,
    [runId, node],
  )
  return rows[0] ?? { state: 'missing', ok: -1 }
}

async function runOf(
  runId: string | undefined,
): Promise<{ state: string; open: number; active: number; stop: string | null }> {
  const rows = await db.query<{ state: string; open: number; active: number; stop: string | null }>(
    `select state, open, active, stop from run where id = $1`,
    [runId],
  )
  return rows[0] ?? { state: 'missing', open: -1, active: -1, stop: null }
}

/** Until `count` statements of this database wait for another, or `done` says that they need not. */
async function untilBlocked(count: number, done: () => boolean): Promise<void> {
  const until = systemClock.monotonic() + GIVE_UP_MS
  while (!done() && systemClock.monotonic() < until) {
    const rows = await db.query<{ n: number }>(
      `select count(*)::int as n from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`,
    )
    if ((rows[0]?.n ?? 0) >= count) return
    await systemClock.sleep(5)
  }
}

/** A promise that tells whether it is settled, and never rejects. */
function watched<T>(promise: Promise<T>): { settled: () => boolean; outcome: Promise<T | Error> } {
  let settled = false
  const outcome = promise.then(
    (value) => value,
    (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
  )
  void outcome.then(() => (settled = true))
  return { settled: () => settled, outcome }
}

async function whoMayReport(): Promise<void> {
  const { runs, leased } = await makeRuns(1)
  const own = reportOf(leased, runs[0], 0)
  const other = await makeSession()
  const report = async (c: Completion) => (await completeSteps(db, [c], [], OPTIONS)).done.size
  hold((await report({ ...own, fence: own.fence + 1 })) === 0, 'a report under another fence was recorded')
  hold((await report({ ...own, session: other })) === 0, 'a report of another live session was recorded')
  await endSessions(db, [own.session], 'worker.lost')
  hold((await report(own)) === 0, 'a report of a session that has ended was recorded')
}

const NOTED = { kind: 'handed_over', turn: 1, from: 'a', to: 'b' } as const

/** Each of the two statements of an append by itself: whoever does not hold the step any more. */
async function whoMayJournal(): Promise<void> {
  const { leased } = await makeRuns(1)
  const [step] = leased
  if (!step) throw new Error('nothing was leased')
  const late = { ...step, fence: step.fence - 1 }
  const isHeld = await db.transaction(async (tx) => (await holdSteps(tx, [late])).length > 0)
  hold(!isHeld, 'a step was held by an attempt that has lost it')
  const [written] = await appendEntries(db, [{ ...late, n: 1, entries: [NOTED] }])
  hold(written === 0, 'an entry of an attempt that has lost its step was journaled')
}

/** The step is taken back while an append of its attempt is under way: after that nothing of the attempt may come. */
async function lossDuringAppend(): Promise<void> {
  const { leased } = await makeRuns(1)
  const [step] = leased
  if (!step) throw new Error('nothing was leased')
  const go = deferred<void>()
  const reached = deferred<void>()
  const append = watched(
    db.transaction(async (tx) => {
      await holdSteps(tx, [step])
      reached.resolve()
      await go.promise
      await appendEntries(tx, [{ ...step, n: 1, entries: [NOTED] }])
    }),
  )
  await Promise.race([reached.promise, append.outcome])
  const loss = watched(
    db.query(`update step set state = 'queued', session = null where run_id = $1 and node = $2`, [
      step.runId,
      step.node,
    ]),
  )
  await untilBlocked(1, loss.settled)
  hold(!loss.settled(), 'a step was taken back in the middle of an append of its attempt')
  go.resolve()
  await Promise.all([append.outcome, loss.outcome])
}

/** The append that is one statement: whoever does not hold the step any more, and whoever was allowed by other rules. */
async function whoMayJournalAtOnce(): Promise<void> {
  const { leased } = await makeRuns(1)
  const [step] = leased
  if (!step) throw new Error('nothing was leased')
  const { version } = await readResourceClock(db)
  const one = { ...step, n: 1, entries: [NOTED], ended: [] }
  const late = await appendAt(db, version, [{ ...one, fence: step.fence - 1 }])
  hold(late.outcomes[0] === null, 'an entry was journaled at once for an attempt that has lost its step')
  const changed = await appendAt(db, version + 1, [one])
  hold(changed.outcomes[0] === null, 'an entry was journaled by rules of another version')
}

/** The step is being taken back when the append that is one statement comes: it waits, and then writes nothing. */
async function appendDuringLoss(): Promise<void> {
  const { leased } = await makeRuns(1)
  const [step] = leased
  if (!step) throw new Error('nothing was leased')
  const { version } = await readResourceClock(db)
  const taken = deferred<void>()
  const go = deferred<void>()
  const loss = watched(
    db.transaction(async (tx) => {
      await tx.query(`update step set state = 'queued', session = null where run_id = $1 and node = $2`, [
        step.runId,
        step.node,
      ])
      taken.resolve()
      await go.promise
    }),
  )
  await Promise.race([taken.promise, loss.outcome])
  const append = watched(appendAt(db, version, [{ ...step, n: 1, entries: [NOTED], ended: [] }]))
  await untilBlocked(1, append.settled)
  go.resolve()
  await loss.outcome
  const said = await append.outcome
  hold(
    !(said instanceof Error) && said.outcomes[0] === null,
    'an entry was journaled at once while the step was taken back',
  )
}

/** A window that was counted, and a step that may set aside by the count. */
async function counted(): Promise<{
  count: HeldCount
  steps: readonly LeasedStep[]
  setAside: (on: Queryable) => Promise<AppendedAll>
}> {
  const { leased: steps } = await makeRuns(1)
  const [step] = steps
  if (!step) throw new Error('nothing was leased')
  const key = { budget: ids.make('resource'), key: 'k' }
  const window = { ...key, namespace: key.budget, selector: {}, currency: null, from: new Date(0), rootRun: null }
  await makeCounters(db, [key])
  const count = await db.transaction(async (tx) => {
    const [locked] = await lockCounters(tx, [key])
    const [found] = await countWindows(tx, [window])
    if (!locked || !found) throw new Error('nothing was counted')
    return { ...locked, namespace: key.budget, selector: {}, rootRun: null, mark: found.fold.mark, until: null }
  })
  const { version } = await readResourceClock(db)
  const origin = { runId: step.runId, rootRun: step.runId, namespace: key.budget, workflows: ['w'], labels: {} }
  const hold = { call: 'm', origin, agent: 'a', endpoint: 'e', tokens: 1, cost: null }
  const appends = steps.map((one) => ({ ...one, n: 1, entries: [NOTED], ended: [] }))
  const holds = steps.map(() => [hold])
  return {
    count,
    steps,
    setAside: (on) => appendAt(on, version, appends, { counts: [count], holds, forMs: 60_000 }),
  }
}

/** Whoever sets aside by a count that is over: somebody else has counted, or more was spent than was set aside. */
async function whoMaySetAside(): Promise<void> {
  const again = await counted()
  await db.transaction((tx) => lockCounters(tx, [again.count]))
  hold(!(await again.setAside(db)).countsHold, 'something was set aside by a count that is over')
  const beyond = await counted()
  const { namespace } = beyond.count
  const tokens = { input: 1, output: 1, cachedInput: 0, cacheWrite: 0 }
  const origin = { runId: 'run_1', rootRun: 'run_1', namespace, workflows: ['w'], labels: {} }
  const spent = { origin, agent: 'a', endpoint: 'e', model: 'm', tokens, cost: null, isUncovered: true }
  await recordSpending(db, [{ ...{ runId: namespace, node: 0, path: '', generation: 0, call: 'm' }, ...spent }])
  hold(!(await beyond.setAside(db)).countsHold, 'something was set aside without what was spent beyond')
}

/** Something is being set aside by a count when somebody counts: they wait, or they would not count it. */
async function countDuringSetAside(): Promise<void> {
  const { count, setAside } = await counted()
  const go = deferred<void>()
  const reached = deferred<void>()
  const aside = watched(
    db.transaction(async (tx) => {
      await setAside(tx)
      reached.resolve()
      await go.promise
    }),
  )
  await Promise.race([reached.promise, aside.outcome])
  const counting = watched(db.transaction((tx) => lockCounters(tx, [count])))
  await untilBlocked(1, counting.settled)
  hold(!counting.settled(), 'somebody counted without what was being set aside')
  go.resolve()
  await Promise.all([aside.outcome, counting.outcome])
}

/** Somebody counts when something is to be set aside by the count before: it waits, and then sees that the count is over. */
async function setAsideDuringCount(): Promise<void> {
  const { count, setAside } = await counted()
  const go = deferred<void>()
  const reached = deferred<void>()
  const counting = watched(
    db.transaction(async (tx) => {
      await lockCounters(tx, [count])
      reached.resolve()
      await go.promise
    }),
  )
  await Promise.race([reached.promise, counting.outcome])
  const aside = watched(setAside(db))
  await untilBlocked(1, aside.settled)
  go.resolve()
  await counting.outcome
  const said = await aside.outcome
  hold(!(said instanceof Error) && !said.countsHold, 'something was set aside while somebody counted')
}

/** One of the steps is held by another: whoever waits for it holds no counter. */
async function countWhileStepsAreAwaited(): Promise<void> {
  const { count, steps, setAside } = await counted()
  const last = steps.at(-1)
  const go = deferred<void>()
  const reached = deferred<void>()
  const holder = watched(
    db.transaction(async (tx) => {
      await tx.query(`select 1 from step where run_id = $1 and node = $2 for update`, [last?.runId, last?.node])
      reached.resolve()
      await go.promise
    }),
  )
  await Promise.race([reached.promise, holder.outcome])
  const aside = watched(setAside(db))
  await untilBlocked(1, aside.settled)
  const counting = watched(db.transaction((tx) => lockCounters(tx, [count])))
  await untilBlocked(2, counting.settled)
  hold(counting.settled(), 'a counter was held by who waited for a step')
  go.resolve()
  await Promise.all([holder.outcome, aside.outcome, counting.outcome])
}

async function joinInOneBatch(): Promise<void> {
  const { runs, leased } = await makeRuns(1)
  await completeSteps(db, [reportOf(leased, runs[0], 0), reportOf(leased, runs[0], 1)], [], OPTIONS)
  const c = await rowOf(runs[0], 2)
  hold(c.ok === 2 && c.state === 'queued', `two needs of a join in one batch: it counts ${c.ok} and is ${c.state}`)
}

async function joinInTwoTransactions(): Promise<void> {
  const { runs, leased } = await makeRuns(1)
  const go = deferred<void>()
  const written = deferred<void>()
  const first = watched(
    db.transaction(async (tx) => {
      await completeSteps(tx, [reportOf(leased, runs[0], 0)], [], OPTIONS)
      written.resolve()
      await go.promise
    }),
  )
  await Promise.race([written.promise, first.outcome])
  const second = watched(completeSteps(db, [reportOf(leased, runs[0], 1)], [], OPTIONS))
  await untilBlocked(1, second.settled)
  go.resolve()
  await Promise.all([first.outcome, second.outcome])
  const c = await rowOf(runs[0], 2)
  const run = await runOf(runs[0])
  hold(c.ok === 2 && c.state === 'queued', `two needs of a join at once: it counts ${c.ok} and is ${c.state}`)
  hold(run.open === 1 && run.active === 1, `two needs of a join at once: its run counts ${JSON.stringify(run)}`)
}

/**
 * Each batch waits for the row that it wants first. The first row is let go, so that its batch goes on to the second and waits
 * there too; then the second. Batches that lock in different orders now wait for each other.
 */
async function sameRunsInTwoBatches(): Promise<void> {
  const { runs, leased } = await makeRuns(2)
  const [a, b] = runs
  const first = await holdRun(a)
  const second = await holdRun(b)
  const one = watched(completeSteps(db, [reportOf(leased, a, 0), reportOf(leased, b, 0)], [], OPTIONS))
  const two = watched(completeSteps(db, [reportOf(leased, b, 1), reportOf(leased, a, 1)], [], OPTIONS))
  const bothDone = () => one.settled() && two.settled()
  await untilBlocked(2, bothDone)
  await first.letGo()
  await untilBlocked(2, bothDone)
  await second.letGo()
  for (const outcome of await Promise.all([one.outcome, two.outcome])) {
    if (outcome instanceof Error) broken.push(`two batches over the same runs: ${outcome.message}`)
    else hold(outcome.done.size === 2, `two batches over the same runs: ${outcome.done.size} of 2 recorded`)
  }
}

/** Locks a run's row in a transaction of its own. */
async function holdRun(runId: string | undefined): Promise<{ letGo: () => Promise<void> }> {
  const go = deferred<void>()
  const held = deferred<void>()
  const holder = watched(
    db.transaction(async (tx) => {
      await tx.query(`select 1 from run where id = $1 for update`, [runId])
      held.resolve()
      await go.promise
    }),
  )
  await Promise.race([held.promise, holder.outcome])
  return {
    letGo: async () => {
      go.resolve()
      await holder.outcome
    },
  }
}

/** The cancel holds its run and has not written yet when the last step's success comes. */
async function successDuringCancel(): Promise<void> {
  const { runs, leased } = await makeRuns(1)
  await completeSteps(db, [reportOf(leased, runs[0], 0)], [], OPTIONS)
  const go = deferred<void>()
  const reached = deferred<void>()
  const engine = createEngine({
    ...{ db: pausing(db, 'save_', reached.resolve, go.promise), clock: systemClock, ids, random: systemRandom },
    ...{ log: silentLog, metrics: { count: () => {}, gauge: () => {}, observe: () => {} }, times: DEFAULT_TIMES },
    ...{ serverId: ids.make('server'), version: '0', address: null, host: 'h', isAlive: () => null },
  })
  const caller = { actor: 't', role: 'admin' as const, organisation: '*', namespaces: null, requestId: 'r' }
  const cancel = watched(engine.cancelRun(caller, runs[0] ?? ''))
  await Promise.race([reached.promise, cancel.outcome])
  const success = watched(completeSteps(db, [reportOf(leased, runs[0], 1)], [], OPTIONS))
  await untilBlocked(1, success.settled)
  go.resolve()
  await Promise.all([cancel.outcome, success.outcome])
  const run = await runOf(runs[0])
  hold(
    run.stop === 'cancel' && run.state !== 'succeeded' && run.open === 1,
    `a run that was canceled meanwhile took a success past its cancel: ${JSON.stringify(run)}`,
  )
}

/** Stops before the first statement of a transaction whose name begins so. */
function pausing(on: Db, name: string, reached: () => void, go: Promise<void>): Db {
  return {
    ...on,
    transaction: <T>(work: (tx: Queryable) => Promise<T>) =>
      on.transaction((tx) =>
        work({
          query: async <R>(sql: string, params?: readonly unknown[], options?: { name?: string }) => {
            if (options?.name?.startsWith(name)) {
              reached()
              await go
            }
            return tx.query<R>(sql, params, options)
          },
        }),
      ),
  }
}

await migrate(db, { version: '0' })
for (const race of [
  whoMayReport,
  whoMayJournal,
  lossDuringAppend,
  whoMayJournalAtOnce,
  appendDuringLoss,
  whoMaySetAside,
  countDuringSetAside,
  setAsideDuringCount,
  countWhileStepsAreAwaited,
  joinInOneBatch,
  joinInTwoTransactions,
  sameRunsInTwoBatches,
  successDuringCancel,
]) {
  try {
    await race()
  } catch (error) {
    broken.push(`${race.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  }
}
await db.close()
console.log(broken.length === 0 ? 'ok' : broken.join('\n'))
process.exitCode = broken.length === 0 ? 0 : 1
