import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import type { JsonObject } from '../base/json.ts'
import { silentLog } from '../base/log.ts'
import type { ResourceRouteId } from '../contract/resource-routes.ts'
import { permissionAt, PERMISSIONS } from '../contract/permissions.ts'
import { type Route, type RouteId, ROUTES } from '../contract/routes.ts'
import { parseResources } from '../domain/kinds/documents.ts'
import { type KindName, KINDS } from '../domain/kinds/registry.ts'
import { isEnough, type Role } from '../domain/roles.ts'
import { definitionOf } from '../domain/testing/definitions.ts'
import { reachOf } from '../domain/tenancy.ts'
import type { RunningEngine } from '../engine/create-engine.ts'
import type { Caller } from '../engine/engine.ts'
import { NO_SOURCES } from '../engine/secret-sources.ts'
import { EngineRig, type RigWorker } from '../engine/testing/rig.ts'
import { KeyRing } from '../store/secrets/key-ring.ts'
import { SealingKey } from '../store/secrets/seal.ts'
import { putToken } from '../store/tokens/tokens.ts'
import { REGISTER } from './api-rig.ts'
import { type Api, createApi } from './create-api.ts'
import { ownDocument } from './tenancy.ts'

/**
 * Every route × everybody who may ask, against a real engine and store. What is asked for belongs to namespace `hidden` of the
 * organisation `acme`; every text in it carries a mark, so that what leaks is seen wherever it comes out.
 */
const MARK = 'm4rk'
const NAMESPACE = 'hidden'

type Who = Role | 'none' | 'everything' | 'otherOrganisation' | 'otherNamespace' | 'otherWorker' | 'home'
const TOKENS: Record<Exclude<Who, 'none'>, { role: Role; organisation: string; namespaces: string[] | null }> = {
  viewer: { role: 'viewer', organisation: 'acme', namespaces: [NAMESPACE] },
  operator: { role: 'operator', organisation: 'acme', namespaces: [NAMESPACE] },
  admin: { role: 'admin', organisation: 'acme', namespaces: null },
  worker: { role: 'worker', organisation: 'acme', namespaces: [NAMESPACE] },
  everything: { role: 'admin', organisation: '*', namespaces: null },
  otherOrganisation: { role: 'admin', organisation: 'beta', namespaces: null },
  otherNamespace: { role: 'admin', organisation: 'acme', namespaces: ['other'] },
  otherWorker: { role: 'worker', organisation: 'beta', namespaces: null },
  home: { role: 'admin', organisation: 'default', namespaces: null },
}
const INSIDERS: readonly Who[] = ['viewer', 'operator', 'admin', 'worker', 'everything']
const OUTSIDERS: readonly Who[] = ['otherOrganisation', 'otherNamespace', 'otherWorker', 'home']

const secretOf = (who: Exclude<Who, 'none'>) => `secret-of-${who}`

/** What there is to be seen. */
interface Things {
  run: string
  hash: string
  token: string
  session: string
  step: string
  /** Of a resource of each kind. */
  name: string
  approval: string
}
/** In the form of the real ones, and there is no such thing. */
const ABSENT: Things = {
  run: 'run_00000000000000000000000000',
  hash: 'A'.repeat(43),
  token: 'tok_00000000000000000000000000',
  session: 'ses_00000000000000000000000000',
  step: 'run_00000000000000000000000000.0',
  name: 'nowhere',
  approval: 'apr_00000000000000000000000000',
}

interface Case {
  /** Values of the path's parameters. */
  params?: (t: Things) => Record<string, string>
  body?: (t: Things) => unknown
  query?: string
  accept?: string
  /** The state that the run has to be in. */
  state?: 'live' | 'canceled'
  status: number
}

const held = (t: Things) => ({ session: t.session, free: 0, draining: false })
const ofAttempt = (t: Things) => ({ session: t.session, step: t.step, fence: 1 })
/** Nothing in it, so that its name says it all. */
const FILE = { name: MARK, bytes: 0, sha256: createHash('sha256').digest('hex'), retentionMs: 3_600_000 }
const WORKFLOW = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: 'w', namespace: NAMESPACE },
  spec: { steps: [{ name: 'one', command: ['true'] }] },
}
const registration = { ...REGISTER, worker: 'newcomer', version: '0', capacity: 1 }

const HANDED_OVER = { kind: 'handed_over', turn: 1, from: 'a', to: 'b' }

/** One for each route: a new route does not compile, and does not pass, without its line. */
const CASES: Record<Exclude<RouteId, ResourceRouteId>, Case> = {
  createDefinition: { body: () => ({ workflow: WORKFLOW }), status: 201 },
  getDefinition: { params: (t) => ({ hash: t.hash }), status: 200 },
  createRun: { body: (t) => ({ definition: t.hash }), status: 201 },
  createRuns: { body: (t) => ({ definition: t.hash, items: [{}, {}] }), status: 201 },
  listRuns: { query: `?namespace=${NAMESPACE}`, status: 200 },
  getRun: { params: (t) => ({ id: t.run }), status: 200 },
  listSteps: { params: (t) => ({ id: t.run }), status: 200 },
  cancelRun: { params: (t) => ({ id: t.run }), state: 'live', status: 200 },
  retryRun: { params: (t) => ({ id: t.run }), state: 'canceled', status: 200 },
  // Nothing of it has failed: who is let in is told that.
  retryStep: { params: (t) => ({ id: t.run, name: 'b' }), state: 'live', status: 409 },
  skipStep: { params: (t) => ({ id: t.run, name: 'b' }), body: () => ({ output: 1 }), state: 'live', status: 200 },
  followEvents: { params: (t) => ({ id: t.run }), state: 'canceled', status: 200 },
  followLogs: { params: (t) => ({ id: t.run }), query: '?follow=true', state: 'canceled', status: 200 },
  listArtifacts: { params: (t) => ({ id: t.run }), status: 200 },
  downloadArtifact: { params: (t) => ({ id: t.run }), query: `?step=a&name=${MARK}`, status: 200 },
  artifacts: { body: (t) => ({ ...ofAttempt(t), files: [{ ...FILE, name: 'new' }], sent: false }), status: 200 },
  chunk: { body: (t) => ({ ...ofAttempt(t), sha256: FILE.sha256, index: 0, base64: 'AAAA' }), status: 200 },
  // The step hands on no variables: who is let in is told that.
  files: { body: ofAttempt, status: 200 },
  content: { body: (t) => ({ ...ofAttempt(t), sha256: FILE.sha256, index: 0 }), status: 200 },
  // The step is no agent's: who is let in is told that.
  agent: { body: ofAttempt, status: 400 },
  exports: { body: (t) => ({ ...ofAttempt(t), env: { A: 'b' } }), status: 400 },
  journal: { body: (t) => ({ ...ofAttempt(t), from: 1 }), status: 200 },
  // No agent's step: who is let in is told that.
  append: { body: (t) => ({ ...ofAttempt(t), n: 1, entries: [HANDED_OVER] }), status: 400 },
  showJournal: { params: (t) => ({ id: t.run, step: 'a' }), status: 200 },
  listWorkers: { status: 200 },
  nudgeRun: { params: (t) => ({ id: t.run }), state: 'live', status: 200 },
  sendEvent: { params: (t) => ({ id: t.run, event: 'go' }), body: () => ({}), state: 'live', status: 200 },
  listApprovals: { status: 200 },
  getApproval: { params: (t) => ({ approval: t.approval }), status: 200 },
  // The row is there and no step waits for it: who is let in is told that.
  approveApproval: { params: (t) => ({ approval: t.approval }), body: () => ({}), state: 'live', status: 409 },
  denyApproval: { params: (t) => ({ approval: t.approval }), body: () => ({}), state: 'live', status: 409 },
  askModel: { params: (t) => ({ model: t.name }), body: () => ({ prompt: 'hello' }), status: 200 },
  checkAgent: { params: (t) => ({ agent: t.name }), body: () => ({ tool: 'slack', operation: 'read' }), status: 200 },
  listMemoryEntries: { params: (t) => ({ memory: t.name }), status: 200 },
  getMemoryEntry: { params: (t) => ({ memory: t.name }), query: '?key=k', status: 200 },
  putMemoryEntry: { params: (t) => ({ memory: t.name }), query: '?key=own', body: () => ({ text: 'b' }), status: 200 },
  searchMemory: { params: (t) => ({ memory: t.name }), body: () => ({ query: MARK }), status: 200 },
  ingestMemory: { params: (t) => ({ memory: t.name }), body: () => ({ source: 's', text: 'b' }), status: 200 },
  deleteMemoryEntries: { params: (t) => ({ memory: t.name }), query: '?prefix=own', status: 200 },
  checkMemory: { params: (t) => ({ memory: t.name }), status: 200 },
  // The step is of no agent: who is let in is told that.
  memory: {
    body: (t) => ({ ...ofAttempt(t), agent: 'a', memory: t.name, operation: 'read', input: { key: 'k' }, call: 'c' }),
    status: 200,
  },
  setSecretValues: { params: () => ({ name: 'own' }), body: () => ({ values: { a: 'b' } }), status: 200 },
  listSecretValues: { status: 200 },
  showSecretValues: { params: (t) => ({ name: t.name }), status: 200 },
  deleteSecretValues: { params: (t) => ({ name: t.name }), status: 200 },
  rotateSecrets: { body: () => ({}), status: 200 },
  doctor: { status: 200 },
  listCosts: { query: '?by=run', status: 200 },
  getStatus: { status: 200 },
  register: { body: () => registration, status: 200 },
  poll: { body: (t) => ({ ...held(t), held: [] }), status: 200 },
  report: {
    body: (t) => ({
      ...held(t),
      reports: [{ kind: 'succeeded', step: t.step, fence: 1, seq: 1, startedAgoMs: 1, endedAgoMs: 0, output: 1 }],
    }),
    status: 200,
  },
  heartbeat: { body: (t) => ({ session: t.session, clock: 1 }), status: 200 },
  health: { status: 200 },
  ready: { status: 200 },
  metrics: { status: 200 },
  openapi: { status: 200 },
  createToken: { body: () => ({ name: 'made', role: 'viewer' }), status: 201 },
  listTokens: { query: '?all=true&limit=500', status: 200 },
  revokeToken: { params: (t) => ({ token: t.token }), status: 200 },
  whoami: { status: 200 },
  mcp: {
    accept: 'application/json, text/event-stream',
    body: () => ({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_runs', arguments: {} } }),
    status: 200,
  },
  canI: { body: () => ({ verb: 'list', resource: 'runs' }), status: 200 },
  listAudit: { query: '?limit=500', status: 200 },
}

/** Those of the resources, whatever kinds there are. */
function caseOf(route: Route): Case {
  if (route.id === 'applyResources')
    return { body: () => resourceOf('Workflow', 'applied'), query: `?namespace=${NAMESPACE}`, status: 200 }
  const { resource } = route
  if (!resource) return CASES[route.id as keyof typeof CASES] // every other route has its line there
  const { verb, kind } = resource
  if (verb === 'listAll' || verb === 'list') return { status: 200 }
  const params = (t: Things) => ({ name: verb === 'put' ? 'put' : t.name, version: '1' })
  if (verb === 'put') return { params, body: () => resourceOf(kind, 'put'), status: 200 }
  return { params, status: 200 }
}

const resourceOf = (kind: KindName, name: string, label = 'asked'): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name, labels: { of: label } },
  spec: SPECS[kind](label),
})
const SPECS: Record<KindName, (text: string) => JsonObject> = {
  Workflow: () => ({ steps: [{ name: 'one', command: ['true'] }] }),
  Secret: () => ({ data: { a: 'b' } }),
  ModelEndpoint: (text) => ({ provider: 'mock', model: 'scripted', mock: { replies: [{ text }] } }),
  Agent: () => ({ model: 'gpt', instructions: 'Be brief.' }),
  Instructions: () => ({ text: 'Be brief.' }),
  Memory: (text) => ({ scope: 'shared', description: text }),
  McpServer: (text) => ({ transport: 'stdio', stdio: { command: 'true', args: [text] } }),
  Budget: () => ({ window: 'day', limits: { tokens: 1_000_000 } }),
  Tool: (text) => ({ type: 'command', description: text, command: { argv: ['true'] } }),
  PriceTable: () => ({ currency: 'USD', rows: [{ model: '*', input: 1, output: 2 }] }),
  Policy: (text) => ({ description: text, models: { localOnly: true } }),
  Role: (text) => ({ description: text, permissions: [{ tools: ['slack'], operations: ['read'] }] }),
}

let rig: EngineRig
let engine: RunningEngine
let api: Api
let worker: RigWorker
let hash: string
const callerOf = (who: Exclude<Who, 'none'>): Caller => {
  const { role, organisation, namespaces } = TOKENS[who]
  return { actor: `tok_${who}`, role, organisation, namespaces: reachOf(organisation, namespaces), requestId: 'r' }
}
const admin = callerOf('admin')

beforeAll(async () => {
  rig = await EngineRig.open()
  await rig.reset()
  const keys = SealingKey.generate().reveal()
  const ring = new KeyRing({ name: 'keys.txt', read: () => Promise.resolve(keys), prepend: null })
  engine = rig.engine({ secrets: { ring, sources: NO_SOURCES, remember: () => {} } })
  const metrics = { contentType: 'text/plain', metrics: () => '' }
  api = createApi({ engine, clock: systemClock, ids: rig.ids, log: silentLog, version: '0', metrics })
  for (const [who, token] of Object.entries(TOKENS))
    await putToken(rig.db, { ...token, id: `tok_${who}`, name: `of-${who}`, secret: `secret-of-${who}` })
  const namespace = `acme/${NAMESPACE}`
  const definition = definitionOf(
    [
      { name: 'a', runsOn: { of: MARK } },
      { name: 'b', runsOn: { of: 'nobody' } },
    ],
    { namespace, name: MARK },
  )
  hash = (await engine.putDefinition(admin, definition)).hash
  worker = await rig.worker(engine, { caller: callerOf('worker'), worker: MARK, labels: { of: MARK }, capacity: 1_000 })
})
afterAll(() => rig.close())

/** Two resources of each kind. */
const allResources = () =>
  ['hush', 'put'].flatMap((name) =>
    KINDS.flatMap(({ kind }) =>
      parseResources(JSON.stringify(resourceOf(kind, name, MARK)), { file: 'matrix', namespace: NAMESPACE }),
    ).map((document) => ownDocument(admin, document)),
  )
let documents: ReturnType<typeof allResources> | null = null

/** A run with a line of log, a step that the worker holds, and a token of the namespace. */
async function things(state: Case['state'] = 'live'): Promise<Things> {
  const run = { definition: hash, inputs: {}, labels: { of: MARK }, idempotencyKey: null, fingerprint: null }
  const [made] = await engine.createRuns(admin, [run])
  const id = made?.runId ?? ''
  await worker.poll()
  const attempt = [...worker.held.values()].find((h) => h.step.startsWith(id))
  if (!attempt) throw new Error(`the worker was not given a step of ${id}`)
  const segments = [{ index: 1, stream: 'stdout' as const, agoMs: 0, text: `${MARK}\n` }]
  await worker.report(attempt, { kind: 'log', segments })
  const at = { session: worker.session, step: attempt.step, fence: attempt.fence }
  await engine.takeArtifacts(callerOf('worker'), { ...at, files: [FILE], sent: false })
  if (state === 'canceled') {
    await engine.cancelRun(admin, id)
    for (const h of [...worker.held.values()]) if (h.step.startsWith(id)) await worker.report(h, { kind: 'canceled' })
  }
  await engine.resources.apply(admin, (documents ??= allResources()), { dryRun: false })
  const memory = { namespace: `acme/${NAMESPACE}`, name: 'hush', scope: null }
  await engine.memories.put(admin, memory, 'k', { text: MARK })
  const approval = rig.ids.make('approval')
  await rig.db.query(
    `insert into approval (id, run_id, node, path, fence, step, namespace, workflow, message, on_expiry, state, created_at)
     values ($1, $2, 1, '', 1, 'b', $3, 'w', $4, 'deny', 'pending', clock_now())`,
    [approval, id, `acme/${NAMESPACE}`, MARK],
  )
  const request = { name: MARK, role: 'viewer' as const, namespaces: [NAMESPACE] }
  const token = await engine.access.createToken(admin, request)
  return { run: id, hash, token: token.id, session: worker.session, step: `${id}.0`, name: 'hush', approval }
}

const untouched = new Map<Case['state'], Promise<Things>>()
/** What a request is about: made anew after a request that was allowed to change something, and only then. */
function thingsFor(route: Route): Promise<Things> {
  const { state } = caseOf(route)
  const there = untouched.get(state) ?? things(state)
  untouched.set(state, there)
  return there
}

interface Reply {
  status: number
  text: string
}

async function ask(route: Route, who: Who, t: Things): Promise<Reply> {
  const { params, body, accept, query = '' } = caseOf(route)
  // Who sees every organisation names the namespace with its own.
  const namespace = who === 'everything' ? encodeURIComponent(`acme/${NAMESPACE}`) : NAMESPACE
  const values: Record<string, string> = { namespace, ns: namespace, ...params?.(t) }
  let path = route.path
  for (const [name, value] of Object.entries(values)) path = path.replace(`{${name}}`, value)
  const headers: Record<string, string> = { 'x-request-id': 'same' }
  if (who !== 'none') headers['authorization'] = `Bearer ${secretOf(who)}`
  if (accept !== undefined) headers['accept'] = accept
  if (body) headers['content-type'] = 'application/json'
  const init = { method: route.method, headers, ...(body ? { body: JSON.stringify(body(t)) } : {}) }
  const response = await api.fetch(new Request(`http://x${path}${query}`, init))
  if (route.method !== 'GET' && response.status < 400) untouched.clear()
  return { status: response.status, text: await response.text() }
}

/** The same answer, whatever the name of what was asked for. */
const nameless = ({ status, text }: Reply, t: Things): Reply => ({
  status,
  text: [t.step, t.run, t.hash, t.token, t.session, t.name, t.approval].reduce(
    (all, name) => all.replaceAll(name, '…'),
    text,
  ),
})

/** Whether it names one thing that may be hidden; the others are lists, or make something of the caller's own. */
const isAboutOne = (route: Route): boolean =>
  route.resource
    ? !['list', 'listAll', 'put'].includes(route.resource.verb)
    : (caseOf(route).params !== undefined && route.id !== 'setSecretValues') ||
      [
        'createRun',
        'createRuns',
        'poll',
        'report',
        'heartbeat',
        'artifacts',
        'chunk',
        'exports',
        'files',
        'content',
        'journal',
        'append',
        'agent',
        'memory',
      ].includes(route.id)

const roleOf = (who: Who): Role | null => (who === 'none' ? null : TOKENS[who].role)

test('there is a case for every route, and a route for every case', () => {
  const others = ROUTES.filter((route) => !route.resource && route.id !== 'applyResources')
  expect(Object.keys(CASES).sort()).toEqual(others.map((route) => route.id).sort())
  expect(Object.keys(PERMISSIONS).sort()).toEqual(Object.keys(CASES).sort())
})

describe.each(ROUTES)('$method $path', (route) => {
  const expected = caseOf(route)

  test.each(['none', ...INSIDERS] as const)('%s, of the same namespace', async (who) => {
    const role = roleOf(who)
    const reply = await ask(route, who, await thingsFor(route))
    if (route.auth === 'none') expect(reply.status).toBe(expected.status)
    else if (role === null) {
      expect(reply.status).toBe(401)
      expect(reply.text).not.toContain(MARK)
    } else if (!isEnough(role, route.auth)) {
      expect(reply).toMatchObject({ status: 403, text: expect.stringContaining('client.forbidden') })
      expect(reply.text).not.toContain(MARK)
    } else {
      // The keys of all secrets are for those who see everything.
      const isTooWide = route.id === 'rotateSecrets' && who !== 'everything'
      expect(reply).toMatchObject({ status: isTooWide ? 403 : expected.status })
    }
  })

  test.each(OUTSIDERS)('%s, who may not see it', async (who) => {
    const role = roleOf(who)
    const real = await thingsFor(route)
    const reply = await ask(route, who, real)
    expect(reply.text).not.toContain(MARK)
    if (route.auth !== 'none' && role !== null && !isEnough(role, route.auth)) return expect(reply.status).toBe(403)
    if (!isAboutOne(route)) return expect([200, 201, 403]).toContain(reply.status)
    const absent = await ask(route, who, ABSENT)
    expect(nameless(reply, real)).toEqual(nameless(absent, ABSENT))
    if (route.auth !== 'worker') expect(reply.status).toBe(404)
  })

  test('can-i says the same as the door', async () => {
    const permission = permissionAt(route)
    if (permission === null) return expect(['none', 'any']).toContain(route.auth)
    for (const who of INSIDERS) {
      if (who === 'none') continue
      const response = await api.fetch(
        new Request('http://x/v1/can-i', {
          method: 'POST',
          headers: { authorization: `Bearer ${secretOf(who)}`, 'content-type': 'application/json' },
          body: JSON.stringify(permission),
        }),
      )
      expect(await response.json()).toMatchObject({
        allowed: isEnough(TOKENS[who].role, route.auth),
        required: route.auth,
      })
    }
  })
})

test('what an outsider tried changed nothing', async () => {
  const t = await things('live')
  for (const route of ROUTES) for (const who of OUTSIDERS) if (isAboutOne(route)) await ask(route, who, t)
  const run = await engine.getRun(admin, t.run)
  expect(run).toMatchObject({ state: 'pending', epoch: 1, canceling: false })
  expect(run.stepList.map((s) => s.state)).toEqual(['running', 'queued'])
  expect((await worker.poll()).sessionState).toBe('live')
  const tokens = await engine.access.listTokens(admin, { all: true, cursor: null, limit: 500 })
  expect(tokens.items.find((one) => one.id === t.token)).toMatchObject({ state: 'good' })
})

test('what a namespace holds reads by its plain name inside its organisation, and with it outside', async () => {
  const { run } = await things()
  const read = async (who: Exclude<Who, 'none'>) => {
    const route = ROUTES.find((r) => r.id === 'getRun') as Route // every route has a case, and this is one
    const { text } = await ask(route, who, { ...ABSENT, run })
    return (JSON.parse(text) as { namespace: string }).namespace
  }
  expect([await read('viewer'), await read('everything')]).toEqual([NAMESPACE, `acme/${NAMESPACE}`])
})
