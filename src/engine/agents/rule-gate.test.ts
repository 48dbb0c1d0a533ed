import { beforeEach, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { silentLog } from '../../base/log.ts'
import { noMetrics } from '../../base/metrics.ts'
import { ownRulesOf } from '../../domain/agents/asked-call.ts'
import type { AskedCall } from '../../domain/agents/verdict.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { readAgent } from '../../domain/kinds/agent.ts'
import type { RunningEngine } from '../create-engine.ts'
import { ADMIN, type EngineRig, one, useRig } from '../testing/rig.ts'
import type { AskedModel } from './gate.ts'
import { RuleGate } from './rule-gate.ts'

let rig: EngineRig
let engine: RunningEngine
let gate: RuleGate
let counted: string[]
let logged: string[]
useRig((given) => {
  rig = given
})
beforeEach(() => {
  engine = rig.engine()
  counted = []
  logged = []
  const count = (name: string, _by?: number, labels: Record<string, string> = {}) => {
    counted.push(`${name} ${Object.values(labels).join(' ')}`)
  }
  const log = { ...silentLog, error: (message: string) => void logged.push(message) }
  gate = new RuleGate({ ids: rig.ids, clock: rig.clock, log, metrics: { ...noMetrics, count } })
})

async function declare(kind: string, name: string, spec: JsonObject, namespace = 'default'): Promise<void> {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name, namespace }, spec })
  await engine.resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
}
const remove = (kind: string, name: string) =>
  engine.resources.remove(
    ADMIN,
    { kind, namespace: 'default', name } as never, // one of the kinds there are
    { precondition: { match: null, absent: false }, dryRun: false },
  )

const WRITER = { model: 'gpt', instructions: 'x', tools: ['slack'] }
const callOf = (more: Partial<AskedCall> = {}, spec: JsonObject = WRITER): AskedCall => ({
  namespace: 'default',
  workflow: 'report',
  runId: 'run_1',
  agent: 'writer',
  tool: 'slack',
  operation: 'write',
  input: { text: 'the arguments themselves' },
  own: ownRulesOf(readAgent(spec), more.tool ?? 'slack'),
  target: null,
  isUnconfined: false,
  ...more,
})
const said = async (call: AskedCall): Promise<string> => {
  const [verdict] = await gate.calls(rig.db, [call])
  return `${verdict?.verdict} by ${verdict?.rule}`
}
const modelOf = (endpoint: string, more: Partial<AskedModel> = {}): AskedModel => ({
  namespace: 'default',
  workflow: 'report',
  runId: 'run_1',
  agent: 'writer',
  endpoint,
  ...more,
})
const DENIES = { tools: { denied: [{ tools: ['slack'], reason: 'not now' }] } }
const audited = async () => {
  const all = {
    actor: null,
    action: null,
    object: null,
    outcome: 'denied' as const,
    namespace: null,
    since: null,
    cursor: null,
  }
  return (await engine.access.listAudit(ADMIN, { ...all, limit: 100 })).items
}

describe('a call', () => {
  test('is judged by the rules as they are at the moment: one that was changed or deleted holds from the next call on', async () => {
    expect(await said(callOf())).toBe('approval by default')
    await declare('Policy', 'p', DENIES)
    expect(await said(callOf())).toBe('deny by policy/p')
    await declare('Policy', 'p', { tools: { denied: [{ tools: ['mail'] }] } })
    expect(await said(callOf())).toBe('approval by default')
    await declare('Role', 'r', { permissions: [{ tools: ['slack'], operations: ['write'] }] })
    const spec = { ...WRITER, roles: ['r'] }
    expect(await said(callOf({}, spec))).toBe('allow by role/r')
    await remove('Role', 'r')
    expect(await said(callOf({}, spec))).toBe('deny by role/r')
  })

  test('many of several namespaces at once take one statement, and no spec is read twice', async () => {
    await declare('Policy', 'p', DENIES)
    await declare('Policy', 'p', { tools: { approval: [{ tools: ['*'] }] } }, 'team')
    const statements: string[] = []
    rig.faults.before = (name) => {
      statements.push(name)
    }
    const verdicts = await gate.calls(rig.db, [
      callOf(),
      callOf({ namespace: 'team' }),
      callOf({ tool: 'mail' }, { ...WRITER, tools: ['mail'] }),
    ])
    expect(verdicts.map(({ verdict }) => verdict)).toEqual(['deny', 'approval', 'approval'])
    expect(statements).toEqual(['list_rules', 'record_audit'])
    const known = await rig.db.query<{ spec: unknown }>(
      `select spec from resource where kind = 'Policy' and name = 'p' and namespace = 'team'`,
    )
    expect(known).toHaveLength(1)
    // What was read is not sent again: a spec that were read anew would deny now.
    await rig.db.query(`update resource set spec = '{"broken": true}' where kind = 'Policy'`)
    expect((await gate.calls(rig.db, [callOf({ namespace: 'team' })]))[0]).toMatchObject({ verdict: 'approval' })
  })

  test('under a policy that a later build wrote is denied, naming it', async () => {
    await declare('Policy', 'p', DENIES)
    await rig.db.query(`update resource set spec = '{"from": "the future"}' where kind = 'Policy'`)
    const [verdict] = await gate.calls(rig.db, [
      callOf({ operation: 'read', tool: 'mail' }, { ...WRITER, tools: ['mail'] }),
    ])
    expect(verdict).toMatchObject({
      verdict: 'deny',
      rule: 'policy/p',
      reason: expect.stringContaining('cannot be read'),
    })
  })

  test('is denied while the rules cannot be had, whatever is asked', async () => {
    rig.faults.before = (name) => {
      if (name === 'list_rules') throw new Error('the disk is gone')
    }
    expect(await said(callOf({ operation: 'read' }))).toBe('deny by default')
    expect((await gate.models(rig.db, [modelOf('gpt')]))[0]).toMatchObject({
      failure: { code: 'policy.denied' },
      caps: [{ tokens: 0 }],
    })
    expect((await gate.dataRules(rig.db, modelOf('gpt'))).rules).toMatchObject([{ action: 'block' }])
    expect(logged).toContain('rules cannot be read: everything is denied')
  })

  test('that is denied is in the audit log with its rule and a hash of its arguments, not with them; again and again once a minute', async () => {
    await declare('Policy', 'p', DENIES)
    await gate.calls(rig.db, [callOf(), callOf({ runId: 'run_2' })])
    expect(await audited()).toMatchObject([
      {
        actor: { id: 'agent/writer', role: 'agent' },
        namespace: 'default',
        action: 'tools.call',
        object: 'slack',
        outcome: 'denied',
        details: {
          rule: 'policy/p',
          code: 'policy.denied',
          operation: 'write',
          run: 'run_1',
          inputSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        },
      },
    ])
    expect(JSON.stringify(await audited())).not.toContain('the arguments themselves')
    rig.clock.advance(60_000)
    await gate.calls(rig.db, [callOf({ agent: null, own: null })])
    expect((await audited()).map(({ actor }) => actor.id)).toEqual(['workflow/report', 'agent/writer'])
    expect(counted).toEqual(Array.from({ length: 3 }, () => 'orrery_rule_verdicts_total tool deny'))
  })

  test('of a run is under the policies for its workflow, those for the workflows above it, and for its labels', async () => {
    const start = async (workflow: string, labels: Record<string, string>, parent: string | null): Promise<string> => {
      const definition = await rig.put(engine, one, { name: workflow })
      const run = { definition, inputs: {}, labels, idempotencyKey: null, fingerprint: null }
      const [made] = await engine.createRuns(ADMIN, [run])
      if (made?.kind !== 'created') throw new Error('the run was not created')
      const id = made.runId
      if (parent !== null)
        await rig.db.query(
          `update run set parent_run = $2, depth = 1, parent_node = 0, parent_path = '', parent_fence = 1 where id = $1`,
          [id, parent],
        )
      return id
    }
    const top = await start('support', { tier: 'prod' }, null)
    const below = await start('research', {}, top)
    await declare('Policy', 'support', { appliesTo: { workflows: ['supp*'] }, ...DENIES })
    const ask = (runId: string, workflow: string) => said(callOf({ runId, workflow }))
    expect(await ask(top, 'support')).toBe('deny by policy/support')
    expect(await ask(below, 'research')).toBe('deny by policy/support')
    expect(await ask(await start('research', {}, null), 'research')).toBe('approval by default')
    await declare('Policy', 'support', { appliesTo: { labels: 'tier=prod' }, ...DENIES })
    expect(await ask(below, 'research')).toBe('deny by policy/support')
    expect(await ask(await start('support', {}, null), 'support')).toBe('approval by default')
    await declare('Policy', 'support', { delegation: { maxDepth: 1 } })
    const spec = { ...WRITER, delegates: ['reader'] }
    const gives = (runId: string) =>
      callOf({ runId, tool: 'ask_reader', target: { of: 'agent', name: 'reader' } }, spec)
    expect(await said(gives(top))).toBe('allow by agent/writer')
    expect(await said(gives(below))).toBe('deny by policy/support')
    await declare('Policy', 'support', { delegation: { maxRuns: 1 } })
    expect(await said(gives(below))).toBe('allow by agent/writer')
    expect(await said(gives(top))).toBe('deny by policy/support')
  })

  test('counts the runs that calls before it in the same turn are to begin', async () => {
    await declare('Policy', 'few', { delegation: { maxRuns: 2 } })
    const spec = { ...WRITER, delegates: ['reader'], handoffs: ['lead'] }
    const gives = (more: Partial<AskedCall> = {}) =>
      callOf({ tool: 'ask_reader', target: { of: 'agent', name: 'reader' }, ...more }, spec)
    const hands = gives({ tool: 'hand_over_to_lead', target: { of: 'handoff', name: 'lead' } })
    const verdicts = await gate.calls(rig.db, [gives(), hands, gives(), gives(), gives({ runId: 'run_2' }), callOf()])
    expect(verdicts.map(({ verdict }) => verdict)).toEqual(['allow', 'allow', 'allow', 'deny', 'allow', 'approval'])
  })
})

describe('a model', () => {
  const mock = { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hi' }] } }

  test('is judged by what its endpoint is at the moment', async () => {
    await declare('ModelEndpoint', 'gpt', {
      provider: 'openai-compatible',
      model: 'm',
      baseUrl: 'https://models.example/v1',
    })
    await declare('ModelEndpoint', 'scripted', mock)
    const ask = async () =>
      (await gate.models(rig.db, [modelOf('gpt'), modelOf('scripted')])).map(
        ({ failure }) => failure?.evidence?.['part'] ?? null,
      )
    expect(await ask()).toEqual([null, null])
    await declare('Policy', 'stay-here', { models: { localOnly: true } })
    expect(await ask()).toEqual(['models.localOnly', null])
    await declare('ModelEndpoint', 'gpt', {
      provider: 'openai-compatible',
      model: 'm',
      baseUrl: 'http://10.0.0.1/v1',
      local: true,
    })
    expect(await ask()).toEqual([null, null])
    expect((await gate.models(rig.db, [modelOf('gone')]))[0]?.failure).toMatchObject({ code: 'policy.denied' })
    expect((await audited()).map(({ action, object, details }) => [action, object, details?.['rule']])).toEqual([
      ['modelendpoints.ask', 'gone', 'policy/stay-here'],
      ['modelendpoints.ask', 'gpt', 'policy/stay-here'],
    ])
  })

  test('that a person asks is under the policies that are for no agent and no workflow, its fallbacks too', async () => {
    const down = { ...mock, retry: 0, fallbacks: ['away'], mock: { replies: [{ errors: [{ code: 'unavailable' }] }] } }
    await declare('ModelEndpoint', 'near', down)
    await declare('ModelEndpoint', 'away', mock)
    const { signal } = new AbortController()
    const ask = async (name: string) => {
      let text = ''
      for await (const event of await engine.askModel(ADMIN, { namespace: 'default', name }, { prompt: 'p' }, signal))
        if (event.type === 'finished') ({ text } = event.result)
      return text
    }
    expect(await ask('near')).toBe('hi')
    await declare('Policy', 'agents-only', { appliesTo: { agents: ['*'] }, models: { denied: ['away'] } })
    expect(await ask('near')).toBe('hi')
    await declare('Policy', 'no-away', { models: { denied: ['away'] } })
    await expect(ask('away')).rejects.toMatchObject({ code: 'policy.denied', evidence: { rule: 'policy/no-away' } })
    await expect(ask('near')).rejects.toMatchObject({ code: 'policy.denied', evidence: { endpoint: 'away' } })
  })
})

test('what a worker holds to by itself comes from the policies that hold for the agent', async () => {
  await declare('Policy', 'data', {
    appliesTo: { agents: ['writer'] },
    data: [{ name: 'mail', kind: 'email', action: 'redact' }],
    egress: { hosts: ['api.example.com'] },
    maxTokens: 700,
  })
  expect(await gate.dataRules(rig.db, modelOf('gpt'))).toMatchObject({
    rules: [{ rule: 'policy/data', name: 'mail', salt: expect.stringMatching(/./) }],
    egress: [{ hosts: ['api.example.com'] }],
  })
  expect(await gate.dataRules(rig.db, modelOf('gpt', { agent: 'reader' }))).toEqual({ rules: [], egress: [] })
  expect(await gate.models(rig.db, [modelOf('gpt'), modelOf('gpt', { agent: 'reader' })])).toMatchObject([
    { caps: [{ rule: 'policy/data', tokens: 700 }] },
    { caps: [] },
  ])
})

describe('asking what an agent might do', () => {
  const check = (tool: string, more: JsonObject = {}) =>
    engine.checkAgent(ADMIN, { namespace: 'default', name: 'writer' }, { tool, ...more })
  beforeEach(async () => {
    await declare('Agent', 'writer', { ...WRITER, tools: ['slack', 'refund'], roles: ['r'], delegates: ['reader'] })
    await declare('Role', 'r', { permissions: [{ tools: ['slack'], operations: ['write'] }] })
  })

  test('gives the verdict of the same rules, with all that was looked at; nothing is counted or written', async () => {
    await declare('Policy', 'other', { appliesTo: { workflows: ['other'] }, ...DENIES })
    expect(await check('slack', { operation: 'write' })).toMatchObject({
      verdict: 'allow',
      rule: 'role/r',
      looked: [
        { rule: 'policy/other', says: 'not_applied', why: 'it is for the workflows other' },
        { rule: 'role/r', part: 'permissions[0]', says: 'allow' },
      ],
      model: null,
    })
    expect(await check('slack', { operation: 'write', workflow: 'other' })).toMatchObject({
      verdict: 'deny',
      rule: 'policy/other',
      code: 'policy.denied',
      reason: 'not now',
    })
    expect(await check('refund', { operation: 'write' })).toMatchObject({
      verdict: 'deny',
      code: 'tool.permission_denied',
      remediation: expect.stringContaining('role/r'),
    })
    expect(await check('mail', { operation: 'read' })).toMatchObject({
      verdict: 'deny',
      reason: 'agent writer is offered no tool mail',
    })
    expect(await audited()).toEqual([])
  })

  test('says of a model whether it may be asked, and who is given work', async () => {
    await declare('Policy', 'p', { models: { allowed: ['claude'] }, delegation: { to: ['writer'] } })
    await declare('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hi' }] } })
    expect(await check('slack', { operation: 'write', model: 'gpt' })).toMatchObject({
      verdict: 'allow',
      model: { endpoint: 'gpt', allowed: false, rule: 'policy/p', reason: expect.stringContaining('claude') },
    })
    expect(await check('ask_reader', { operation: 'write' })).toMatchObject({
      verdict: 'deny',
      code: 'policy.routing_blocked',
    })
  })

  test('takes the class from the tool, and asks for it when nobody says it', async () => {
    await expect(check('slack')).rejects.toMatchObject({
      code: 'request.invalid',
      remediation: expect.stringContaining('read, write'),
    })
    await expect(
      engine.checkAgent(ADMIN, { namespace: 'default', name: 'writr' }, { tool: 'slack' }),
    ).rejects.toMatchObject({
      code: 'resource.not_found',
    })
  })
})
