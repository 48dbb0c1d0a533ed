// Asks the whole API what its own description says may be asked, and what it says may not: 10,000 requests, no 5xx, and every
// answer is what the description promises.
import { createHash } from 'node:crypto'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createApi } from '../../src/api/index.ts'
import { silentLog, systemClock } from '../../src/base/index.ts'
import { makeOpenApi } from '../../src/contract/index.ts'
import { Failure } from '../../src/domain/failure.ts'
import { FAILURES } from '../../src/domain/failures.ts'
import { kindOf, type KindName } from '../../src/domain/kinds/registry.ts'
import { parseResources } from '../../src/domain/kinds/documents.ts'
import { compileWorkflow } from '../../src/domain/manifest.ts'
import type { RunningEngine } from '../../src/engine/index.ts'
import { ADMIN, EngineRig } from '../../src/engine/testing/rig.ts'
import { eventually } from '../support/eventually.ts'
import { NO_SOURCES } from '../../src/engine/secret-sources.ts'
import { KeyRing, putToken, SealingKey } from '../../src/store/index.ts'
import { fromSchema, type Schema, spoiled } from './from-schema.ts'

const REQUESTS = 10_000
const AT_ONCE = 8
const ANSWER_MS = 20_000
/** A request that the server parks is cut after this. */
const PARKED_MS = 40

interface Operation {
  operationId: string
  parameters?: { name: string; in: 'path' | 'query' | 'header'; required?: boolean; schema: Schema }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { content?: Record<string, { schema?: Schema }> }>
}
interface Ask {
  id: string
  method: string
  path: string
  token: string | null
  body: string
  /** Every type that the operation may answer in. */
  accept: string
}

const document = makeOpenApi('0') as unknown as {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
)

let rig: EngineRig
let api: ReturnType<typeof createApi>
const bugs: string[] = []
const known: Record<string, string[]> = {}
/** Mostly those that get further than the door. */
const tokens = [
  ...Array<string>(4).fill('admin-token'),
  'worker-token',
  'worker-token',
  'scoped-token',
  'no-token',
  null,
]

const WORKFLOW = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: 'fuzzed' },
  spec: { steps: [{ name: 'a', command: ['true'] }] },
}

const SECRET = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Secret',
  metadata: { name: 'fuzzed' },
  spec: { data: { key: 'value' } },
}

const MODEL = {
  apiVersion: 'orrery.dev/v1',
  kind: 'ModelEndpoint',
  metadata: { name: 'fuzzed' },
  spec: { provider: 'mock', model: 'scripted', mock: { replies: [{ text: 'Good day.' }] } },
}

const PRICES = {
  apiVersion: 'orrery.dev/v1',
  kind: 'PriceTable',
  metadata: { name: 'fuzzed' },
  spec: { currency: 'EUR', rows: [{ model: '*', input: 1, output: 2 }] },
}

const BUDGET = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Budget',
  metadata: { name: 'fuzzed' },
  spec: { window: 'day', limits: { tokens: 1_000 } },
}

const AGENT = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Agent',
  metadata: { name: 'fuzzed' },
  spec: { model: 'fuzzed', instructions: 'Be brief.' },
}

const INSTRUCTIONS = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Instructions',
  metadata: { name: 'fuzzed' },
  spec: { text: 'Be brief.' },
}

const MEMORY = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Memory',
  metadata: { name: 'fuzzed' },
  spec: { scope: 'shared' },
}

const TOOL = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Tool',
  metadata: { name: 'fuzzed' },
  spec: { type: 'http', description: 'Looks.', http: { url: 'https://api.example/', method: 'GET' } },
}

const MCP_SERVER = {
  apiVersion: 'orrery.dev/v1',
  kind: 'McpServer',
  metadata: { name: 'fuzzed' },
  spec: { transport: 'http', http: { url: 'https://tools.example/mcp' } },
}

const ROLE = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Role',
  metadata: { name: 'fuzzed' },
  spec: { permissions: [{ tools: ['fuzzed'], operations: ['read'] }] },
}

const POLICY = {
  apiVersion: 'orrery.dev/v1',
  kind: 'Policy',
  metadata: { name: 'fuzzed' },
  spec: { tools: { denied: [{ tools: ['nothing'], operations: ['delete'] }] } },
}

/** One of each kind. */
const MANIFESTS = [WORKFLOW, SECRET, MODEL, PRICES, AGENT, INSTRUCTIONS, MEMORY, MCP_SERVER, POLICY, ROLE, BUDGET, TOOL]

/** Runs and approvals that one request may use up: of each there are several. */
const OF_EACH = 6

/** Approvals that nobody has decided yet. */
async function openApprovals(engine: RunningEngine): Promise<string[]> {
  const steps = [{ name: 'ask', approval: 'Shall it go on?' }]
  const compiled = compileWorkflow({ ...WORKFLOW, metadata: { name: 'asked' }, spec: { steps } })
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  const { hash } = await engine.putDefinition(ADMIN, compiled.definition)
  for (let i = 0; i < OF_EACH; i++) await rig.start(engine, hash)
  const all = { namespace: null, states: [], runId: null, step: null, cursor: null, limit: 50 }
  return eventually(
    async () => {
      await engine.tick()
      const { items } = await engine.listApprovals(ADMIN, all)
      return items.length === OF_EACH ? items.map((approval) => approval.id) : null
    },
    { withinMs: 40_000, what: 'approvals to be asked for' },
  )
}

beforeAll(async () => {
  rig = await EngineRig.open()
})

// Before each try: requests use up what there is to retry, to decide and to delete.
beforeEach(async () => {
  await rig.reset()
  bugs.length = 0
  const key = SealingKey.generate().reveal()
  const ring = new KeyRing({ name: 'keys', read: () => Promise.resolve(key), prepend: null })
  const engine = rig.engine({ secrets: { ring, sources: NO_SOURCES, remember: () => {} } })
  const log = {
    ...silentLog,
    error: (message: string, fields?: unknown) => void bugs.push(`${message} ${JSON.stringify(fields).slice(0, 800)}`),
  }
  api = createApi({
    engine,
    clock: systemClock,
    ids: rig.ids,
    log,
    version: '0',
    metrics: { contentType: 'text/plain', metrics: () => '' },
  })
  await putToken(rig.db, { id: 'tok_admin', secret: 'admin-token', role: 'admin', name: 'a', namespaces: null })
  await putToken(rig.db, { id: 'tok_spare', secret: 'spare-token', role: 'viewer', name: 's', namespaces: null })
  await putToken(rig.db, { id: 'tok_worker', secret: 'worker-token', role: 'worker', name: 'w', namespaces: null })
  await putToken(rig.db, { id: 'tok_scoped', secret: 'scoped-token', role: 'admin', name: 's', namespaces: ['other'] })
  const hash = await rig.put(engine, [{ name: 'a' }, { name: 'b', needs: ['a'] }])
  const run = await rig.start(engine, hash)
  const worker = await rig.worker(engine, { worker: 'fuzzed' })
  const { step, fence } = await worker.pollFirst()
  const empty = { name: 'empty', bytes: 0, sha256: createHash('sha256').digest('hex'), retentionMs: 3_600_000 }
  const at = { session: worker.session, step, fence }
  await engine.takeArtifacts(worker.caller, { ...at, files: [empty], sent: false })
  const idle = await rig.put(engine, [{ name: 'a', runsOn: { nobody: 'here' } }])
  const canceled: string[] = []
  for (let i = 0; i < OF_EACH; i++) {
    const id = await rig.start(engine, idle)
    await engine.cancelRun(ADMIN, id)
    canceled.push(id)
  }
  const failed: string[] = []
  const failure = new Failure('step.function_threw', 'running a').toRecord()
  for (let i = 0; i < OF_EACH; i++) {
    const id = await rig.start(engine, hash)
    await worker.poll()
    const held = [...worker.held.values()].find((attempt) => attempt.step.startsWith(id))
    if (!held) throw new Error(`the worker was not given a step of ${id}`)
    await worker.report(held, { kind: 'failed', failure })
    failed.push(id)
  }
  const approvals = await openApprovals(engine)
  const doomed = Array.from({ length: OF_EACH }, (_, i) => `doomed-${i}`)
  const documents = MANIFESTS.flatMap((kind) => ['fuzzed', ...doomed].map((name) => ({ ...kind, metadata: { name } })))
  const stored = documents.flatMap((one) => parseResources(JSON.stringify(one), { file: 'fuzzed', namespace: null }))
  await engine.resources.apply(ADMIN, stored, { dryRun: false })
  const memory = { namespace: 'default', name: 'fuzzed', scope: null }
  await engine.memories.put(ADMIN, memory, 'fuzzed', { text: 'A good day.' })
  Object.assign(known, {
    id: [run, ...canceled],
    runWithFailure: failed,
    runWithFiles: [run],
    verb: ['create', 'get'],
    jsonrpc: ['2.0'],
    method: ['ping', 'tools/list', 'notifications/initialized'],
    resource: ['runs', 'tokens'],
    approval: approvals,
    approvalToApprove: approvals.slice(OF_EACH / 2),
    agent: ['fuzzed'],
    tool: ['fuzzed'],
    memory: ['fuzzed'],
    key: ['fuzzed'],
    scope: ['shared'],
    hash: [hash],
    definition: [hash],
    session: [worker.session],
    step: [step, 'a'],
    name: ['a', 'b', 'empty'],
    resourceName: ['fuzzed'],
    model: ['fuzzed'],
    doomedName: doomed,
    sha256: [empty.sha256],
    ns: ['default', 'other'],
    namespace: ['default'],
    labelSelector: ['a=x', '!a,b notin (x, y)'],
    fieldSelector: ['metadata.name=fuzzed'],
    version: ['1', 'active'],
    workflowRef: ['fuzzed', 'fuzzed@1'],
    token: ['tok_spare'],
  })
})
afterAll(() => rig.close())

/** Values for names that mean something: ids that exist get a request past the first look. */
const named = (name: string): fc.Arbitrary<unknown> | null => {
  if (name === 'workflow') return fc.constant(WORKFLOW)
  if (name === 'values') return fc.constant({ token: 'value-of-a-secret' })
  if (name === 'manifest') return fc.constant(JSON.stringify(WORKFLOW))
  return valuesOf(name)
}

const valuesOf = (name: string): fc.Arbitrary<string> | null => {
  const values = known[name]
  return values ? fc.constantFrom(...values) : null
}

function asksOf({ path, method, operation }: (typeof operations)[number]): fc.Arbitrary<Ask> {
  const defs = document.components.schemas
  const parameters = operation.parameters ?? []
  const junk = fc.string({ minLength: 1, maxLength: 40 })
  const inPath = parameters.filter((p) => p.in === 'path')
  const inQuery = parameters.filter((p) => p.in === 'query')
  const pathValues = fc.tuple(
    ...inPath.map(({ name }) => {
      const isResource = name === 'name' && path.includes('/namespaces/')
      // What is deleted by chance is not what the others look for.
      const run = path.includes('/artifacts')
        ? 'runWithFiles'
        : path.endsWith(':retry') && path.includes('/steps/')
          ? 'runWithFailure'
          : 'id'
      // What somebody denied first cannot be approved.
      const approval = path.endsWith(':approve') ? 'approvalToApprove' : name
      const meantBy = name === 'id' ? run : name === 'approval' ? approval : name
      const meant = isResource ? (method === 'DELETE' ? 'doomedName' : 'resourceName') : meantBy
      return fc.oneof({ weight: 3, arbitrary: named(meant) ?? junk }, { weight: 1, arbitrary: junk })
    }),
  )
  const queryValues = fc.tuple(
    ...inQuery.map((p) => {
      const fitting = valuesOf(p.name) ?? fromSchema(p.schema, defs, named)
      const given = fc.oneof({ weight: 4, arbitrary: fitting }, { weight: 1, arbitrary: junk })
      // Where there are many of them, all of them together would never fit.
      return p.required ? given : fc.option(given, { freq: inQuery.length > 4 ? 1 : 2 })
    }),
  )
  const schema = operation.requestBody?.content['application/json']?.schema
  const isManifest = operation.requestBody?.content['application/yaml'] !== undefined
  // An address of one kind is given manifests of that kind, or it would hardly ever be given one that it takes.
  const fit = MANIFESTS.filter(({ kind }) => path.includes(`/${kindOf(kind as KindName).plural}/`))
  const described = schema ? fromSchema(schema, defs, named).chain(withOneSource) : fc.constant(undefined)
  // What else may be given with a yes is for approvals of other kinds than these.
  const made = path.endsWith(':approve') ? fc.oneof(described, fc.constant({})) : described
  const fitting = isManifest ? fc.oneof(made, fc.constantFrom<unknown>(...(fit.length > 0 ? fit : MANIFESTS))) : made
  const body = fitting.chain((value) => (value === undefined ? fc.constant('') : bodyText(value)))
  return fc.tuple(pathValues, queryValues, body, fc.constantFrom(...tokens)).map(([ids, queries, text, token]) => {
    let filled = path
    for (const [i, p] of inPath.entries())
      filled = filled.replace(`{${p.name}}`, encodeURIComponent(String(ids[i]).toWellFormed()))
    const query = new URLSearchParams()
    for (const [i, p] of inQuery.entries()) {
      const value = queries[i]
      for (const one of Array.isArray(value) ? value : value === null ? [] : [value]) query.append(p.name, String(one))
    }
    const tail = query.size > 0 ? `?${query}` : ''
    const accept = [...new Set(Object.values(operation.responses).flatMap((one) => Object.keys(one.content ?? {})))]
    return {
      id: operation.operationId,
      method,
      path: `${filled}${tail}`,
      token,
      body: text,
      accept: accept.join(', '),
    }
  })
}

const SOURCES = ['definition', 'workflow', 'manifest', 'workflowRef']

/** Of the ways to say what shall run exactly one may be used, which the schema's text cannot say. */
function withOneSource(body: unknown): fc.Arbitrary<unknown> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return fc.constant(body)
  const given = SOURCES.filter((source) => Object.hasOwn(body, source))
  if (given.length === 0) return fc.constant(body)
  const fits = (key: string, kept: string) => key === kept || !given.includes(key)
  // A namespace is that of a stored workflow.
  const belongs = (key: string, kept: string) => key !== 'namespace' || kept === 'workflowRef'
  return fc
    .constantFrom(...given)
    .map((kept) => Object.fromEntries(Object.entries(body).filter(([key]) => fits(key, kept) && belongs(key, kept))))
}

/** Mostly as it should be; else with something wrong in it, or no JSON at all. */
const bodyText = (value: unknown): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 5, arbitrary: fc.constant(JSON.stringify(value)) },
    { weight: 4, arbitrary: spoiled(value).map((odd) => JSON.stringify(odd)) },
    { weight: 1, arbitrary: fc.constantFrom('', '{', 'null', '[]', '{"a":1}{', '\0') },
  )

async function ask({ method, path, token, body, accept }: Ask) {
  const parked = new AbortController()
  const isParking = /:poll$|\/poll$|follow=true|watch=true|\/events/.test(path)
  if (isParking) void systemClock.sleep(PARKED_MS).then(() => parked.abort())
  const headers = { accept, 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) }
  const response = await api.fetch(new Request(`http://embedded${path}`, { method, headers }), {
    ...(method === 'GET' ? {} : { body }),
    signal: AbortSignal.any([parked.signal, AbortSignal.timeout(ANSWER_MS)]),
  })
  const type = (response.headers.get('content-type') ?? '').split(';')[0] ?? ''
  const text = await response.text()
  return { status: response.status, type, text }
}

describe('the API, asked by its own description', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  const validators = new Map<string, ValidateFunction>()
  const contentOf = (id: string, status: number) => {
    const operation = operations.find((o) => o.operation.operationId === id)?.operation
    return (operation?.responses[status] ?? operation?.responses['default'])?.content ?? {}
  }
  const promised = (id: string, status: number, type: string): ValidateFunction | null => {
    const content = contentOf(id, status)[type]
    if (!content?.schema) return null
    const key = `${id} ${status} ${type}`
    const schema = JSON.parse(JSON.stringify({ ...content.schema, components: document.components })) as object
    if (!validators.has(key)) validators.set(key, ajv.compile(schema))
    return validators.get(key) ?? null
  }

  test('never answers 5xx, and answers what it promises', { timeout: 600_000 }, async () => {
    const share = Math.ceil(REQUESTS / operations.length)
    const seed = Number(process.env['ORRERY_FUZZ_SEED'] ?? 20_261_122)
    const asks = operations.flatMap((operation) => fc.sample(asksOf(operation), { numRuns: share, seed }))
    // One operation after another would leave most of them without anything to find.
    const shuffled =
      fc.sample(fc.shuffledSubarray(asks, { minLength: asks.length, maxLength: asks.length }), {
        numRuns: 1,
        seed,
      })[0] ?? []
    const statuses = new Map<string, Map<number, number>>()
    const one = async (request: Ask): Promise<void> => {
      const { status, type, text } = await ask(request)
      const counts = statuses.get(request.id) ?? new Map<number, number>()
      statuses.set(request.id, counts.set(status, (counts.get(status) ?? 0) + 1))
      const shown = `${request.method} ${request.path} ${request.body.slice(0, 1_000)}\n${status} ${text.slice(0, 1_000)}`
      expect(status, `${shown}\n${bugs.join('\n')}`).toBeLessThan(500)
      const isJson = type === 'application/json' || type === 'application/problem+json'
      const validate = promised(request.id, status, type)
      if (status >= 400) {
        expect(Object.keys(contentOf(request.id, status)), shown).toContain(type)
        if (type === 'application/problem+json')
          expect(Object.keys(FAILURES), shown).toContain((JSON.parse(text) as { code: string }).code)
      }
      if (validate && isJson)
        expect(validate(JSON.parse(text)), `${shown}\n${JSON.stringify(validate.errors?.slice(0, 3))}`).toBe(true)
    }
    const queue = shuffled[Symbol.iterator]()
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const request of queue) await one(request)
      }),
    )
    expect(shuffled.length).toBeGreaterThanOrEqual(REQUESTS)
    expect(bugs).toEqual([])
    // A route that never answers well was not reached by what was asked.
    const unreached = operations.flatMap(({ operation: { operationId: id } }) => {
      const seen = [...(statuses.get(id) ?? new Map<number, number>())]
      return seen.some(([status]) => status < 400) ? [] : [`${id} ${JSON.stringify(seen)}`]
    })
    expect(unreached).toEqual([])
  })
})
