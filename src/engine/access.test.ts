import { describe, expect, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import { reachOf } from '../domain/tenancy.ts'
import { findToken, putToken } from '../store/tokens/tokens.ts'
import type { AuditQuery } from './access.ts'
import type { RunningEngine } from './create-engine.ts'
import type { Caller } from './engine.ts'
import { ADMIN, type EngineRig, one, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const adminOf = (organisation: string, namespaces: string[] | null): Caller => ({
  ...ADMIN,
  actor: `tok_${organisation}`,
  organisation,
  namespaces: reachOf(organisation, namespaces),
})
const ACME = adminOf('acme', null)
const TEAM = adminOf('acme', ['team'])
const ANY: AuditQuery = {
  actor: null,
  action: null,
  object: null,
  outcome: null,
  namespace: null,
  since: null,
  cursor: null,
  limit: 50,
}
const actions = async (caller: Caller, query: Partial<AuditQuery> = {}) =>
  (await engine.access.listAudit(caller, { ...ANY, ...query })).items.map((entry) => entry.action)

describe('a new token', () => {
  test('is told once, kept as its hash, and works', async () => {
    const made = await engine.access.createToken(ADMIN, { name: 'ci', role: 'operator', expiresInSeconds: 60 })
    expect(made).toMatchObject({ name: 'ci', role: 'operator', organisation: '*', namespaces: null, state: 'good' })
    expect(made.token).toMatch(/^orr_[\w-]{43}$/)
    expect(await engine.authenticate(made.token)).toMatchObject({ actor: made.id, role: 'operator', namespaces: null })
    const { items } = await engine.access.listTokens(ADMIN, { all: false, cursor: null, limit: 10 })
    expect(items).toMatchObject([{ id: made.id, createdBy: ADMIN.actor }])
    expect(JSON.stringify(items)).not.toContain(made.token)
    const rows = await rig.db.query(`select token::text as row from token union all select audit::text from audit`)
    expect(JSON.stringify(rows)).not.toContain(made.token)

    await rig.advance(61_000)
    expect(await findToken(rig.db, made.token)).toBeNull()
    const all = await engine.access.listTokens(ADMIN, { all: true, cursor: null, limit: 10 })
    expect(all.items).toMatchObject([{ id: made.id, state: 'expired' }])
  })

  test('reaches as far as the one that made it, unless less was asked for', async () => {
    const make = async (caller: Caller, more: object) => {
      const made = await engine.access.createToken(caller, { name: 't', role: 'viewer', ...more })
      return (await engine.authenticate(made.token))?.namespaces
    }
    expect(await make(ADMIN, {})).toBeNull()
    expect(await make(ADMIN, { namespaces: ['team'] })).toEqual(['team'])
    expect(await make(ADMIN, { organisation: 'acme' })).toEqual(['acme/*'])
    expect(await make(ACME, {})).toEqual(['acme/*'])
    expect(await make(ACME, { namespaces: ['a', 'b'] })).toEqual(['acme/a', 'acme/b'])
    expect(await make(TEAM, {})).toEqual(['acme/team'])
  })

  test.for<[string, Caller, { organisation?: string; namespaces?: string[] }]>([
    ['another organisation', ACME, { organisation: 'beta' }],
    ['every organisation', ACME, { organisation: '*' }],
    ['the default organisation', ACME, { organisation: 'default', namespaces: ['acme'] }],
    ['another namespace', TEAM, { namespaces: ['team', 'other'] }],
    ['another organisation, from a namespace', TEAM, { organisation: 'beta' }],
  ])('never reaches further: %s', async ([, caller, more]) => {
    const asked = { name: 't', role: 'viewer' as const, ...more }
    await expect(engine.access.createToken(caller, asked)).rejects.toMatchObject({
      code: 'client.forbidden',
      remediation: expect.stringContaining('reaches no further'),
    })
    expect(await rig.db.query('select 1 from token')).toEqual([])
    expect(await rig.db.query('select 1 from audit')).toEqual([])
  })
})

describe('a token that is revoked', () => {
  test('ends at once here, at the next tick elsewhere, and twice is safe', async () => {
    const other = rig.engine()
    const made = await engine.access.createToken(ADMIN, { name: 'ci', role: 'viewer' })
    for (const server of [engine, other]) expect(await server.authenticate(made.token)).not.toBeNull()
    expect(await engine.access.revokeToken(ADMIN, made.id)).toMatchObject({ state: 'revoked' })
    expect(await engine.authenticate(made.token)).toBeNull()
    await other.tick()
    expect(await other.authenticate(made.token)).toBeNull()
    expect(await engine.access.revokeToken(ADMIN, made.id)).toMatchObject({ state: 'revoked' })
    expect(await actions(ADMIN)).toEqual(['tokens.revoke', 'tokens.create'])
  })

  test('is as good as absent for those who do not reach it', async () => {
    const made = await engine.access.createToken(ACME, { name: 'ci', role: 'viewer' })
    for (const caller of [TEAM, adminOf('beta', null), adminOf('default', null)]) {
      await expect(engine.access.revokeToken(caller, made.id)).rejects.toMatchObject({
        code: 'token.not_found',
        message: `looking for token ${made.id}`,
      })
    }
    expect(await engine.authenticate(made.token)).not.toBeNull()
  })
})

test('when a token was used last is written down, once a minute and to all that used it', async () => {
  await putToken(rig.db, { id: 'tok_1', name: 'n', secret: 'used', role: 'viewer', namespaces: null })
  await putToken(rig.db, { id: 'tok_2', name: 'n', secret: 'unused', role: 'viewer', namespaces: null })
  await engine.authenticate('used')
  await rig.advance(61_000)
  await engine.tick()
  const { items } = await engine.access.listTokens(ADMIN, { all: true, cursor: null, limit: 10 })
  const at = items.find((t) => t.id === 'tok_1')?.lastUsedAt ?? ''
  expect(Date.parse(at)).toBe(rig.clock.now() - 61_000)
  expect(items.find((t) => t.id === 'tok_2')?.lastUsedAt).toBeNull()
})

describe('the audit log', () => {
  test('tells of every change: who, what, where and when, the newest first', async () => {
    const hash = await rig.put(engine, [{ name: 'a', runsOn: { of: 'nobody' } }], { name: 'noted' })
    await rig.advance(10)
    const run = await rig.start(engine, hash)
    await rig.advance(10)
    await engine.skipStep(ADMIN, run, 'a', 1)
    await rig.advance(10)
    const second = await rig.start(engine, hash)
    await rig.advance(10)
    await engine.cancelRun({ ...ADMIN, requestId: 'req_7', address: '192.0.2.7' }, second)
    await rig.advance(10)
    await engine.retryRun(ADMIN, second)
    await rig.advance(10)
    const { items } = await engine.access.listAudit(ADMIN, ANY)
    expect(items.map((e) => [e.action, e.object])).toEqual([
      ['runs.retry', second],
      ['runs.cancel', second],
      ['runs.create', second],
      ['runs.skip', run],
      ['runs.create', run],
      ['definitions.create', hash],
    ])
    expect(items[1]).toMatchObject({
      actor: { id: ADMIN.actor, role: 'admin' },
      organisation: 'default',
      namespace: 'default',
      outcome: 'done',
      address: '192.0.2.7',
      requestId: 'req_7',
    })
    expect(items[3]?.details).toEqual({ step: 'a' })
  })

  test('is paged without a gap, and filtered', async () => {
    const hash = await rig.put(engine, one)
    const runs: string[] = []
    for (let i = 0; i < 3; i++) {
      runs.push(await rig.start(engine, hash))
      await rig.advance(1)
      await engine.cancelRun(ADMIN, runs.at(-1) ?? '')
      await rig.advance(1)
    }
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const page = await engine.access.listAudit(ADMIN, { ...ANY, object: null, cursor, limit: 2 })
      seen.push(...page.items.map((e) => `${e.action} ${e.object}`))
      cursor = page.next
    } while (cursor !== null)
    const expected = runs.toReversed().flatMap((id) => [`runs.cancel ${id}`, `runs.create ${id}`])
    expect(seen.filter((line) => line.startsWith('runs.'))).toEqual(expected)
    expect(await actions(ADMIN, { action: 'runs.cancel' })).toHaveLength(3)
    expect(await actions(ADMIN, { object: runs[0] ?? '' })).toEqual(['runs.cancel', 'runs.create'])
    expect(await actions(ADMIN, { actor: 'nobody' })).toEqual([])
    expect(await actions(ADMIN, { since: new Date(rig.clock.now() - 1).toISOString() })).toEqual(['runs.cancel'])
    expect(await actions(ADMIN, { namespace: 'other' })).toEqual([])
  })

  test('shows each admin his own part, and what is about a whole organisation to those who reach the whole of it', async () => {
    const hash = await rig.put(engine, one, { namespace: 'acme/team', name: 'w' })
    const [run] = await rig.startMany(engine, hash, 1)
    await engine.access.createToken(ACME, { name: 'n', role: 'viewer' })
    expect((await actions(ACME)).sort()).toEqual(['definitions.create', 'runs.create', 'tokens.create'])
    expect((await actions(TEAM)).sort()).toEqual(['definitions.create', 'runs.create'])
    expect(await actions(TEAM, { object: run ?? '' })).toEqual(['runs.create'])
    for (const caller of [adminOf('acme', ['other']), adminOf('beta', null), adminOf('default', null)])
      expect(await actions(caller)).toEqual([])
  })

  test('gathers tokens that were refused: an entry a minute for each address, whoever guesses how often', async () => {
    const made = await engine.access.createToken(ACME, { name: 'old', role: 'viewer' })
    await engine.access.revokeToken(ACME, made.id)
    const show = (token: string, address: string | null, requestId = 'req_1') =>
      engine.access.noteRefused({ token, address, path: '/v1/runs', requestId })
    for (let i = 0; i < 500; i++) show(`guess-${i}`, '192.0.2.7', `req_${i}`)
    for (let i = 0; i < 3; i++) show(made.token, '192.0.2.7')
    for (let i = 0; i < 200; i++) show('flood', `198.51.100.${i}`)
    const refusals = async (caller: Caller) =>
      (await engine.access.listAudit(caller, { ...ANY, action: 'tokens.refused', limit: 1_000 })).items
    expect(await refusals(ADMIN)).toEqual([])
    await rig.advance(61_000)
    await engine.tick()
    const entries = await refusals(ADMIN)
    // One for all the addresses beyond.
    expect(entries).toHaveLength(LIMITS.refusedAddressesPerMinute + 1)
    // Shown after twenty others of that address, it is one of those that nobody remembers.
    expect(entries.find((e) => e.actor.id === made.id)).toBeUndefined()
    expect(entries.find((e) => e.address === '192.0.2.7')).toMatchObject({
      actor: { id: 'unknown', name: null },
      object: '/v1/runs',
      outcome: 'denied',
      requestId: 'req_0',
      details: { state: 'unknown', count: 503, tokens: 20 },
    })
    expect(entries.find((e) => e.details?.['elsewhere'])).toMatchObject({ address: null, details: { count: 151 } })
    expect(await refusals(ACME)).toEqual([])
  })

  test('shows the administrators of an organisation where its ended tokens are still used', async () => {
    const made = await engine.access.createToken(ACME, { name: 'old', role: 'viewer' })
    await engine.access.revokeToken(ACME, made.id)
    const refused = { token: made.token, address: '192.0.2.7', path: '/v1/runs', requestId: 'req_1' }
    for (let i = 0; i < 3; i++) engine.access.noteRefused(refused)
    await rig.advance(61_000)
    await engine.tick()
    const { items } = await engine.access.listAudit(ACME, { ...ANY, action: 'tokens.refused' })
    expect(items).toMatchObject([
      {
        actor: { id: made.id, name: 'old' },
        organisation: 'acme',
        address: '192.0.2.7',
        details: { state: 'revoked', count: 3 },
      },
    ])
    expect(JSON.stringify(items)).not.toContain(made.token)
    await rig.advance(61_000)
    await engine.tick()
    expect((await engine.access.listAudit(ACME, { ...ANY, action: 'tokens.refused' })).items).toHaveLength(1)
  })

  test('shows them nothing of what came from the same address with the tokens of others', async () => {
    const [acme, beta] = [ACME, adminOf('beta', null)]
    for (const [caller, path, requestId] of [
      [beta, '/v1/runs/run_of_beta', 'req_beta'],
      [acme, '/v1/runs/run_of_acme', 'req_acme'],
    ] as const) {
      const made = await engine.access.createToken(caller, { name: 'old', role: 'viewer' })
      await engine.access.revokeToken(caller, made.id)
      for (let i = 0; i < 2; i++)
        engine.access.noteRefused({ token: made.token, address: '192.0.2.7', path, requestId: `${requestId}_${i}` })
    }
    await rig.advance(61_000)
    await engine.tick()
    const of = async (caller: Caller) =>
      (await engine.access.listAudit(caller, { ...ANY, action: 'tokens.refused' })).items
    expect(await of(acme)).toMatchObject([
      { object: '/v1/runs/run_of_acme', requestId: 'req_acme_0', details: { count: 2 } },
    ])
    expect(await of(beta)).toMatchObject([
      { object: '/v1/runs/run_of_beta', requestId: 'req_beta_0', details: { count: 2 } },
    ])
  })

  test('forgets what is older than its time, and nothing else', async () => {
    await engine.access.createToken(ACME, { name: 'first', role: 'viewer' })
    await rig.advance(LIMITS.auditMs - 30_000)
    await engine.access.createToken(ACME, { name: 'second', role: 'viewer' })
    const named = async () =>
      (await engine.access.listAudit(ACME, { ...ANY, action: 'tokens.create' })).items.map((e) => e.details?.['name'])
    await engine.tick()
    expect(await named()).toEqual(['second', 'first'])
    await rig.advance(61_000)
    await engine.tick()
    expect(await named()).toEqual(['second'])
  })

  test('holds refusals, the first of a kind each minute', async () => {
    const denied = { action: 'tokens.create', path: '/v1/tokens' }
    for (let i = 0; i < 5; i++) engine.access.noteDenied(ACME, denied)
    engine.access.noteDenied(ACME, { action: 'audit.list', path: '/v1/audit' })
    const entries = async () => (await engine.access.listAudit(ADMIN, { ...ANY, outcome: 'denied' })).items
    expect(await entries()).toMatchObject([
      { action: 'audit.list', organisation: 'acme' },
      { action: 'tokens.create', object: '/v1/tokens', outcome: 'denied', actor: { id: ACME.actor } },
    ])
    await rig.advance(61_000)
    engine.access.noteDenied(ACME, denied)
    expect(await entries()).toHaveLength(3)
  })
})

test('a worker registers for the namespaces that its token may see, and for no others', async () => {
  const caller: Caller = { ...ADMIN, role: 'worker', organisation: 'acme', namespaces: reachOf('acme', ['a', 'b']) }
  await rig.worker(engine, { caller, worker: 'w', namespaces: ['a'] })
  await expect(rig.worker(engine, { caller, worker: 'x', namespaces: ['a', 'c'] })).rejects.toMatchObject({
    code: 'client.forbidden',
    evidence: { namespaces: ['a', 'c'], allowed: ['a', 'b'] },
  })
  const stored = await rig.db.query<{ namespaces: string[] }>(`select namespaces from session`)
  expect(stored).toEqual([{ namespaces: ['acme/a'] }])
})

test('a step that waits tells its people of no worker that they may not see', async () => {
  const workerOf = (organisation: string, namespaces: string[]): Caller => ({
    ...adminOf(organisation, namespaces),
    role: 'worker',
  })
  await rig.worker(engine, { caller: workerOf('beta', ['team']), worker: 'beta-secret' })
  await rig.worker(engine, { caller: workerOf('acme', ['other']), worker: 'other-secret' })
  const run = await rig.start(engine, await rig.put(engine, one, { namespace: 'acme/team' }))
  await rig.advance(5_000)
  const [step] = (await engine.getRun(TEAM, run)).stepList
  expect(step?.reason).toMatchObject({
    code: 'dispatch.scope_mismatch',
    evidence: { namespace: 'team' },
  })
  expect(JSON.stringify(step)).not.toContain('secret')
})
