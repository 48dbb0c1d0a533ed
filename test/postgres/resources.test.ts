import { afterAll, beforeAll, expect, test } from 'vitest'
import { createIds, seededRandom, silentLog, systemClock } from '../../src/base/index.ts'
import { noMetrics } from '../../src/base/metrics.ts'
import { parseResources } from '../../src/domain/kinds/documents.ts'
import { Failure } from '../../src/domain/failure.ts'
import { createEngine, DEFAULT_TIMES, type Caller, type RunningEngine } from '../../src/engine/index.ts'
import type { Db } from '../../src/store/db.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { resourceSuite } from '../../src/store/resources/resources.suite.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const ADMIN: Caller = { actor: 'tok_admin', role: 'admin', organisation: '*', namespaces: null, requestId: 'req' }
const ROUNDS = 20
const WRITERS = 6

const workflow = (name: string, command: string) =>
  parseResources(
    JSON.stringify({
      apiVersion: 'orrery.dev/v1',
      kind: 'Workflow',
      metadata: { name },
      spec: { steps: [{ name: 'a', command }] },
    }),
    { file: 'given', namespace: null },
  )

describeWithPostgres('resources', (postgres) => {
  resourceSuite('on PostgreSQL', async () => openMigrated(await postgres.createStore()))
})

describeWithPostgres('resources from two servers', (postgres) => {
  let dbs: Db[] = []
  let engines: RunningEngine[] = []
  beforeAll(async () => {
    const dsn = await postgres.createStore()
    dbs = [await openMigrated(dsn, 8), await openMigrated(dsn, 8)]
    engines = dbs.map((db, i) =>
      createEngine({
        db,
        serverId: `srv_${i}`,
        clock: systemClock,
        random: seededRandom(i),
        ids: createIds(systemClock, seededRandom(i)),
        log: silentLog,
        metrics: noMetrics,
        version: '0',
        address: null,
        host: `host${i}`,
        isAlive: () => null,
        times: DEFAULT_TIMES,
      }),
    )
  })
  afterAll(async () => {
    for (const db of dbs) await db.close()
  })
  const engineOf = (i: number): RunningEngine => {
    const engine = engines[i % engines.length]
    if (!engine) throw new Error('no engine')
    return engine
  }
  const writers = Array.from({ length: WRITERS }, (_, i) => i)
  const ref = (name: string) => ({ kind: 'Workflow', namespace: 'default', name }) as const

  test('of those who write with the same If-Match exactly one succeeds, and the others hear of it', async () => {
    await engineOf(0).resources.apply(ADMIN, workflow('raced', 'first'), { dryRun: false })
    for (let round = 0; round < ROUNDS; round++) {
      const { metadata } = await engineOf(round).resources.get(ADMIN, ref('raced'))
      const precondition = { match: [metadata.resourceVersion], absent: false }
      const outcomes = await Promise.all(
        writers.map((i) =>
          engineOf(i)
            .resources.apply(ADMIN, workflow('raced', `echo ${round} ${i}`), { dryRun: false, precondition })
            .then(
              () => 'stored',
              (error: unknown) => (error instanceof Failure ? error.code : String(error)),
            ),
        ),
      )
      expect(outcomes.toSorted()).toEqual([...writers.slice(1).map(() => 'resource.precondition_failed'), 'stored'])
    }
    const versions = await engineOf(0).resources.listVersions(ADMIN, ref('raced'), { cursor: null, limit: 100 })
    expect(versions.items.map((v) => v.version)).toEqual(Array.from({ length: ROUNDS + 1 }, (_, i) => ROUNDS + 1 - i))
  })

  test('of those who create under one name exactly one does', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const answers = await Promise.all(
        writers.map((i) => engineOf(i).resources.apply(ADMIN, workflow(`new-${round}`, 'same'), { dryRun: false })),
      )
      const outcomes = answers.map((a) => a.resources[0]?.outcome)
      expect(outcomes.filter((o) => o === 'created')).toHaveLength(1)
      expect(outcomes.filter((o) => o === 'unchanged')).toHaveLength(WRITERS - 1)
    }
  })

  test('a watch on one server misses nothing that several writers store on both, and sees it in the order of versions', async () => {
    const { resourceVersion } = await engineOf(0).resources.list(
      ADMIN,
      { kind: 'Workflow', namespace: null, name: null, terms: [] },
      { cursor: null, limit: 1 },
    )
    const stop = new AbortController()
    const wanted = new Set(writers.flatMap((i) => Array.from({ length: ROUNDS }, (_, n) => `seen-${i}-${n}`)))
    const seen: number[] = []
    const watching = (async () => {
      const which = { kind: 'Workflow', namespace: null, name: null, terms: [] } as const
      for await (const event of engineOf(0).resources.watch(
        ADMIN,
        { ...which, terms: [] },
        Number(resourceVersion),
        stop.signal,
      )) {
        if (event.resource) {
          wanted.delete(event.resource.metadata.name)
          seen.push(Number(event.resourceVersion))
        }
        if (wanted.size === 0) return
      }
    })()
    await Promise.all(
      writers.map(async (i) => {
        for (let n = 0; n < ROUNDS; n++)
          await engineOf(i).resources.apply(ADMIN, workflow(`seen-${i}-${n}`, 'true'), { dryRun: false })
      }),
    )
    await watching
    stop.abort()
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    expect(seen).toHaveLength(WRITERS * ROUNDS)
  })
})
