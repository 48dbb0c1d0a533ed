import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/base/index.ts'
import type { Assignment } from '../../src/contract/exchange.ts'
import { readAgent } from '../../src/domain/kinds/agent.ts'
import { parseResources } from '../../src/domain/kinds/documents.ts'
import { agentNode, boundOf, definitionOf } from '../../src/domain/testing/definitions.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import type { Db } from '../../src/store/db.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { ADMIN, engineOn } from './engine-on.ts'
import { meetingOf } from './meeting.ts'

describeWithPostgres('work that agents of one run give away by two servers at once', (postgres) => {
  let one: Db
  let two: Db
  let engines: RunningEngine[]
  beforeAll(async () => {
    const dsn = await postgres.createStore()
    one = await openMigrated(dsn, 12)
    two = await openMigrated(dsn, 12)
    engines = [engineOn(one, 'srv_1', { seed: 1 }), engineOn(two, 'srv_2', { seed: 2 })]
  })
  afterAll(async () => {
    await one.close()
    await two.close()
  })

  const engine = (n: number): RunningEngine => engines[n % 2] as RunningEngine // made before all

  const declare = (kind: string, name: string, spec: object) => {
    const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
    return engine(0).resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
  }

  /** A run whose steps are agents that may give work to a reader, each held by one session. */
  async function held(steps: number) {
    const runsOn = { test: crypto.randomUUID() }
    const below = definitionOf([{ name: 'read', runsOn }], { name: 'reader' })
    const { hash } = await engine(0).putDefinition(ADMIN, below)
    const spec = readAgent({ model: 'gpt', instructions: 'x', delegates: ['reader'] })
    const reader = { spec: readAgent({ model: 'gpt', instructions: 'x' }), instructions: '', definition: hash }
    const bound = boundOf({ agents: { writer: { spec, instructions: '', definition: null }, reader } })
    const nodes = Array.from({ length: steps }, (_, n) => agentNode(`write-${n}`, { runsOn }))
    const stored = await engine(0).putDefinition(ADMIN, definitionOf(nodes, { name: 'team', bound }))
    const who = { worker: 'w', version: '0', host: 'there', pid: 1, pidStart: null, clock: systemClock.now() }
    const offer = { capacity: steps, labels: runsOn, namespaces: null, backends: ['agent' as const], modules: [] }
    const { session } = await engine(0).register(ADMIN, { ...who, ...offer, replaces: null, held: [] })
    const run = { definition: stored.hash, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null }
    const [outcome] = await engine(0).createRuns(ADMIN, [run])
    const runId = outcome?.kind === 'created' ? outcome.runId : ''
    const work = new Map<string, Assignment>()
    await eventually(
      async () => {
        const holds = [...work.values()].map(({ step, fence }) => ({ step, fence }))
        const request = { session, free: steps - work.size, held: holds, draining: false }
        const { assignments } = await engine(0).poll(ADMIN, request, new AbortController().signal)
        for (const a of assignments) work.set(a.step, a)
        return work.size === steps
      },
      { withinMs: 20_000, what: 'all assignments' },
    )
    return { runId, session, work: [...work.values()] }
  }

  type Held = Awaited<ReturnType<typeof held>>
  const ask = (n: number, { session }: Held, a: Assignment) =>
    engine(n).append(ADMIN, {
      ...{ session, step: a.step, fence: a.fence, n: 1 },
      entries: [
        {
          ...{ kind: 'tool_asked', call: 'c1', turn: 1, agent: 'writer', tool: 'ask_reader', operation: 'write' },
          ...{ input: { prompt: 'x' }, repeatable: true },
        },
      ],
    })
  const park = (n: number, { session }: Held, a: Assignment) =>
    engine(n).report(ADMIN, {
      ...{ session, free: 0, draining: false },
      reports: [
        {
          ...{ step: a.step, fence: a.fence, seq: 1, startedAgoMs: 2, endedAgoMs: 1, kind: 'parked' },
          on: { type: 'child', calls: [{ call: 'c1', of: 'agent', name: 'reader', inputs: { prompt: 'x' } }] },
        },
      ],
    })

  test('begins no more runs than delegation.maxRuns of a policy lets it have', async () => {
    await declare('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hi' }] } })
    await declare('Policy', 'two', { delegation: { maxRuns: 2 } })
    const h = await held(4)
    // None of them has begun when they are asked about: each is allowed.
    const answers = await Promise.all(h.work.map((a, n) => ask(n, h, a)))
    expect(answers.map(({ verdicts }) => verdicts['c1']?.verdict.verdict)).toEqual(Array(4).fill('allow'))
    await meetingOf(one, two).inOrder(
      h.runId,
      h.work.map((a, n) => () => park(n, h, a)),
    )
    expect(await one.query(`select id from run where parent_run = $1`, [h.runId])).toHaveLength(2)
    const refused = await one.query<{ result: object }>(
      `select entry->'result' as result from journal where run_id = $1 and kind = 'child_ended'`,
      [h.runId],
    )
    expect(refused.map(({ result }) => result)).toEqual(
      Array(2).fill(
        expect.objectContaining({
          ok: false,
          code: 'policy.routing_blocked',
          reason: 'this run has 2 runs below it, and policy/two lets it have 2 (policy/two)',
          evidence: { rule: 'policy/two', remediation: expect.stringContaining('spec.delegation.maxRuns') },
        }),
      ),
    )
    const waiting = await one.query(`select 1 from step where run_id = $1 and waits = 'child'`, [h.runId])
    expect(waiting).toHaveLength(2)
  })
})
