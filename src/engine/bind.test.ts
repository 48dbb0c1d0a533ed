import { describe, expect, test } from 'vitest'
import type { Json, JsonObject } from '../base/json.ts'
import { compileWorkflow } from '../domain/manifest.ts'
import { readResources } from '../domain/kinds/documents.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Definition } from '../domain/workflow.ts'
import type { RunningEngine } from './create-engine.ts'
import type { Caller } from './engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
let asked: string[]
useRig((given) => {
  rig = given
  asked = []
  engine = rig.engine()
  rig.faults.after = (name) => {
    asked.push(name)
  }
})

const doc = (kind: string, name: string, spec: JsonObject, namespace = 'default') => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name, namespace },
  spec,
})
const GPT = doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hello' }] } })
const agent = (name: string, more: JsonObject = {}) =>
  doc('Agent', name, { model: 'gpt', instructions: 'Be brief.', ...more })

async function apply(...documents: object[]): Promise<void> {
  const read = readResources([{ file: 'all', text: JSON.stringify({ kind: 'List', items: documents }) }], null)
  expect(read.problems).toEqual([])
  await engine.resources.apply(ADMIN, read.documents, { dryRun: false })
}

const workflowOf = (steps: Json[], name = 'w') => doc('Workflow', name, { steps })
function compiled(steps: Json[], name = 'w'): Definition {
  const read = compileWorkflow(workflowOf(steps, name))
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  return read.definition
}
const ASK: Json[] = [{ name: 'write', agent: 'writer', with: { prompt: 'Go.' } }]
const put = async (steps: Json[], name?: string) => (await engine.putDefinition(ADMIN, compiled(steps, name))).hash

async function create(definition: string, caller: Caller = ADMIN) {
  const [outcome] = await engine.createRuns(caller, [
    { definition, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null },
  ])
  if (outcome?.kind !== 'created') throw new Error(JSON.stringify(outcome))
  return outcome
}
const boundOf = async (hash: string) => (await engine.getDefinition(ADMIN, hash)).definition.bound
const failed = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it did not fail')
    },
    (error: unknown) => error as { code: string; evidence: JsonObject; remediation: string; message: string },
  )

describe('binding', () => {
  test('a run keeps all that its agents can reach, instructions filled in', async () => {
    await apply(
      GPT,
      doc('Instructions', 'style', { text: 'Plain words.' }),
      agent('writer', { instructions: [{ text: 'Write.' }, { ref: 'style' }, { text: 'End.' }], handoffs: ['editor'] }),
      agent('editor', { delegates: ['checker'] }),
      agent('checker'),
      agent('stranger'),
    )
    const hash = await put(ASK)
    const { definition, runId } = await create(hash)
    expect(definition).not.toBe(hash)
    expect((await engine.getRun(ADMIN, runId)).definition).toBe(definition)
    const bound = await boundOf(definition)
    expect(Object.keys(bound?.agents ?? {}).sort()).toEqual(['checker', 'editor', 'writer'])
    expect(bound?.agents['writer']?.instructions).toBe('Write.\n\nPlain words.\n\nEnd.')
    expect(bound?.agents['writer']?.spec).toMatchObject({ limits: { maxTurns: 10 }, handoffs: ['editor'] })
  })

  test('an agent that runs below others has a definition of its own; those that take over have none', async () => {
    await apply(
      GPT,
      agent('writer', { handoffs: ['editor'] }),
      agent('editor', { delegates: ['checker'] }),
      agent('checker'),
    )
    const bound = await boundOf((await create(await put(ASK))).definition)
    expect([bound?.agents['writer']?.definition, bound?.agents['editor']?.definition]).toEqual([null, null])
    const below = await engine.getDefinition(ADMIN, bound?.agents['checker']?.definition ?? '')
    expect(below.definition).toMatchObject({
      namespace: 'default',
      name: 'agent.checker',
      nodes: [{ kind: 'agent', agent: 'checker', with: '${{ inputs }}' }],
    })
    expect(Object.keys(below.definition.bound?.agents ?? {})).toEqual(['checker'])
    // It is what a run of it holds, whatever becomes of the agent.
    await apply(agent('checker', { instructions: 'Changed.' }))
    expect((await create(below.hash)).definition).toBe(below.hash)
  })

  test('agents may give work to each other, and to themselves', async () => {
    await apply(GPT, agent('writer', { delegates: ['editor'] }), agent('editor', { delegates: ['writer', 'editor'] }))
    const bound = await boundOf((await create(await put(ASK))).definition)
    const editor = bound?.agents['editor']?.definition ?? ''
    const writer = bound?.agents['writer']?.definition ?? ''
    const below = await boundOf(editor)
    expect(below?.agents['writer']?.definition).toBe(writer)
    expect(below?.agents['editor']?.definition).toBe(editor)
    expect((await boundOf(writer))?.agents['editor']?.definition).toBe(editor)
  })

  test('a change reaches new runs only', async () => {
    await apply(
      GPT,
      doc('Instructions', 'style', { text: 'One.' }),
      agent('writer', { instructions: [{ ref: 'style' }] }),
    )
    const hash = await put(ASK)
    const before = await create(hash)
    await apply(doc('Instructions', 'style', { text: 'Two.' }))
    const after = await create(hash)
    expect((await boundOf(before.definition))?.agents['writer']?.instructions).toBe('One.')
    expect((await boundOf(after.definition))?.agents['writer']?.instructions).toBe('Two.')
    expect((await engine.getRun(ADMIN, before.runId)).definition).toBe(before.definition)
    await apply(doc('Instructions', 'style', { text: 'One.' }))
    expect((await create(hash)).definition).toBe(before.definition)
  })

  test('costs one query when nothing has changed, and none where no step is of an agent', async () => {
    await apply(GPT, agent('writer', { delegates: ['editor'] }), agent('editor'))
    const [open, plain] = [await put(ASK), await put([{ name: 'a', command: ['true'] }], 'plain')]
    const { definition } = await create(open)
    asked.length = 0
    expect((await create(open)).definition).toBe(definition)
    expect(asked.filter((name) => name !== 'create_runs')).toEqual(['find_resource_versions'])
    asked.length = 0
    expect((await create(plain)).definition).toBe(plain)
    expect(asked.filter((name) => name !== 'create_runs')).toEqual([])
    // Many runs of one request are bound once.
    asked.length = 0
    const run = { definition: open, inputs: {}, labels: {}, idempotencyKey: null, fingerprint: null }
    await engine.createRuns(ADMIN, [run, run, run])
    expect(asked.filter((name) => name === 'find_resource_versions')).toHaveLength(1)
  })

  test('gives nobody a workflow of a namespace that they may not see because somebody else who may has bound it', async () => {
    await apply(
      GPT,
      doc('Workflow', 'hidden', { steps: [{ name: 'a', command: ['true'] }] }, 'ops'),
      doc('Tool', 'peek', { type: 'workflow', description: 'x', workflow: 'ops/hidden' }),
      agent('writer', { tools: ['peek'] }),
    )
    const hash = await put(ASK)
    const { definition } = await create(hash)
    const limited: Caller = { ...ADMIN, organisation: 'default', namespaces: ['default'] }
    expect(await failed(create(hash, limited))).toMatchObject({
      code: 'resource.not_found',
      evidence: { kind: 'Workflow', name: 'ops/hidden' },
    })
    expect((await create(hash, { ...limited, namespaces: ['default', 'ops'] })).definition).toBe(definition)
  })

  test('is the same on every server, and for whoever asks', async () => {
    await apply(GPT, agent('writer', { delegates: ['editor'] }), agent('editor'))
    const hash = await put(ASK)
    const { definition } = await create(hash)
    engine = rig.engine()
    expect((await create(hash)).definition).toBe(definition)
  })

  test('the workflow is not found by its name as it was bound', async () => {
    await apply(GPT, agent('writer'))
    const hash = await put(ASK)
    const { runId: former } = await create(hash)
    await apply(agent('writer', { instructions: 'Changed.' }))
    const above = await rig.start(engine, await put([{ name: 'below', workflow: 'w' }], 'above'))
    await engine.tick()
    const { items } = await engine.listRuns(ADMIN, {
      namespace: null,
      workflow: 'w',
      states: [],
      cursor: null,
      limit: 10,
    })
    const below = items.find((run) => run.id !== above && run.id !== former)
    const { definition } = await engine.getRun(ADMIN, below?.id ?? '')
    expect((await boundOf(definition))?.agents['writer']?.instructions).toBe('Changed.')
  })

  test('a long instruction is remarked on, and one beyond the limit refused before there is a run', async () => {
    const half = 'x'.repeat(LIMITS.instructionsChars / 2)
    await apply(
      GPT,
      doc('Instructions', 'long', { text: half }),
      agent('writer', { instructions: [{ text: 'y' }, { ref: 'long' }] }),
    )
    const hash = await put(ASK)
    const { remarks, runId } = await create(hash)
    expect(remarks).toEqual([
      'agent writer: its instructions have 100003 characters, which every turn is asked with; the limit is 200000',
    ])
    const events = await engine.listEvents(ADMIN, runId, 0, 1)
    expect(JSON.stringify(events)).toContain('agent writer: its instructions have 100003 characters')
    await apply(agent('writer', { instructions: [{ text: half }, { ref: 'long' }] }))
    expect(await failed(create(hash))).toMatchObject({
      code: 'agent.too_large',
      evidence: { agent: 'writer', chars: 200_002, limit: 200_000, instructions: ['long'] },
    })
    expect(
      (await engine.listRuns(ADMIN, { namespace: null, workflow: null, states: [], cursor: null, limit: 10 })).items,
    ).toHaveLength(1)
  })

  test('more agents than a run can reach are refused', async () => {
    const names = Array.from({ length: LIMITS.boundAgentsMax + 1 }, (_, i) => `a${i}`)
    const first = { handoffs: names.slice(1, 129), delegates: names.slice(129) }
    await apply(GPT, agent('a0', first), ...names.slice(1).map((name) => agent(name)))
    const refused = await failed(create(await put([{ name: 'write', agent: 'a0', with: 'Go.' }])))
    expect(refused).toMatchObject({ code: 'agent.too_large', evidence: { agents: 257, limit: 256 } })
  })
})

describe('names that are not there', () => {
  test('are told before there is a run, with the nearest and all that are missing', async () => {
    await apply(GPT, agent('writer', { tools: ['serch'], model: 'gtp', delegates: ['nobody'] }))
    const refused = await failed(create(await put([{ name: 'write', agent: 'writr', with: 'Go.' }])))
    expect(refused).toMatchObject({
      code: 'agent.not_found',
      evidence: {
        kind: 'Agent',
        namespace: 'default',
        name: 'writr',
        by: 'step write',
        field: 'agent',
        nearest: 'writer',
      },
      remediation: expect.stringMatching(/^Did you mean writer\? Correct agent of step write, or store agent writr/),
    })
    const inside = await failed(create(await put(ASK)))
    expect(inside).toMatchObject({
      code: 'resource.not_found',
      evidence: {
        kind: 'ModelEndpoint',
        name: 'gtp',
        nearest: 'gpt',
        by: 'agent writer',
        field: 'model',
        missing: ['Tool serch, tools of agent writer', 'Agent nobody, delegates of agent writer'],
      },
    })
    const none = await engine.listRuns(ADMIN, { namespace: null, workflow: null, states: [], cursor: null, limit: 10 })
    expect(none.items).toEqual([])
  })

  test.each<[what: string, step: Json, evidence: JsonObject]>([
    ['a tool', { name: 's', tool: 'slack' }, { kind: 'Tool', name: 'slack', by: 'step s', field: 'tool' }],
    [
      'a model of a route',
      { name: 's', route: { model: 'gtp', question: 'q', to: { t: 'x' } } },
      { kind: 'ModelEndpoint', name: 'gtp', field: 'route.model' },
    ],
    [
      'a shared text',
      { name: 's', agent: 'a', with: 'x' },
      { kind: 'Instructions', name: 'none', field: 'instructions', by: 'agent a' },
    ],
    [
      'a server',
      { name: 's', agent: 'b', with: 'x' },
      { kind: 'McpServer', name: 'none', field: 'mcpServers', by: 'agent b' },
    ],
    [
      'a memory',
      { name: 's', agent: 'c', with: 'x' },
      { kind: 'Memory', name: 'none', field: 'memories', by: 'agent c' },
    ],
    ['a role', { name: 's', agent: 'd', with: 'x' }, { kind: 'Role', name: 'none', field: 'roles', by: 'agent d' }],
    [
      'a judge',
      { name: 's', agent: 'e', with: 'x' },
      { kind: 'ModelEndpoint', name: 'none', field: 'check.model', by: 'agent e' },
    ],
    [
      'a fallback',
      { name: 's', agent: 'f', with: 'x' },
      { kind: 'ModelEndpoint', name: 'none', field: 'fallbackModels', by: 'agent f' },
    ],
  ])('%s', async (_, step, evidence) => {
    await apply(
      GPT,
      agent('a', { instructions: [{ ref: 'none' }] }),
      agent('b', { mcpServers: [{ name: 'none' }] }),
      agent('c', { memories: [{ name: 'none', allow: ['read'] }] }),
      agent('d', { roles: ['none'] }),
      agent('e', { check: { criteria: 'good', model: 'none' } }),
      agent('f', { fallbackModels: ['none'] }),
    )
    const steps = [step, { name: 't', needs: ['s'], command: ['true'] }]
    expect(await failed(create(await put(steps)))).toMatchObject({ code: 'resource.not_found', evidence })
  })

  test('another namespace that has one is named to those alone who may see it', async () => {
    await apply(doc('Agent', 'writer', { model: 'gpt', instructions: 'x' }, 'ops'))
    const hash = await put(ASK)
    const seen = await failed(create(hash))
    expect(seen.evidence['namespaces']).toEqual(['ops'])
    expect(seen.remediation).toMatch(/^There is a[n]? agent of this name in namespace ops/)
    const hidden = await failed(create(hash, { ...ADMIN, organisation: 'default', namespaces: ['default'] }))
    expect(hidden.evidence['namespaces']).toBeUndefined()
    expect(hidden.remediation).toMatch(/^orrery get agents -n default lists/)
  })

  test('a step whose run below names an agent that is not there fails with that', async () => {
    await put(ASK)
    const runId = await rig.start(engine, await put([{ name: 'below', workflow: 'w' }], 'above'))
    await engine.tick()
    const run = await engine.getRun(ADMIN, runId)
    expect(run.state).toBe('failed')
    expect(JSON.stringify(run)).toContain('agent.not_found')
  })
})

describe('an apply', () => {
  const applied = async (...documents: object[]) => {
    const read = readResources([{ file: 'all', text: JSON.stringify({ kind: 'List', items: documents }) }], null)
    return engine.resources.apply(ADMIN, read.documents, { dryRun: false })
  }

  test('remarks on names behind which there is nothing, and stores all the same', async () => {
    const { warnings, resources } = await applied(agent('writer', { tools: ['serch'] }), workflowOf(ASK))
    expect(resources.map(({ outcome }) => outcome)).toEqual(['created', 'created'])
    expect(warnings).toEqual([
      'agent writer names ModelEndpoint gpt in model, which is not there: no run starts before it is stored in namespace default',
      'agent writer names Tool serch in tools, which is not there: no run starts before it is stored in namespace default',
    ])
  })

  test('has nothing to say of what is stored, or comes along', async () => {
    await apply(GPT, agent('editor'))
    const answer = await applied(agent('writer', { handoffs: ['editor'] }), workflowOf(ASK))
    expect(answer.warnings).toBeUndefined()
    const near = await applied(workflowOf([{ name: 'write', agent: 'writr', with: 'x' }]))
    expect(near.warnings).toEqual([expect.stringContaining('did you mean writer?')])
  })
})

describe('tools', () => {
  const putTool = (name: string, spec: JsonObject): Promise<void> =>
    apply(doc('Tool', name, { description: 'd', ...spec }))

  test('that run an agent bind it, with a definition of its own', async () => {
    await apply(GPT, agent('writer', { tools: ['ask'] }), agent('helper'))
    await putTool('ask', { type: 'agent', agent: 'helper' })
    const bound = await boundOf((await create(await put(ASK))).definition)
    expect(bound?.tools['ask']).toMatchObject({ type: 'agent', agent: 'helper', timeout: 30_000 })
    expect(bound?.agents['helper']?.definition).toMatch(/^[A-Za-z0-9_-]{43}$/)
  })

  test('that run a workflow keep the version that counts now', async () => {
    await apply(GPT, agent('writer', { tools: ['go'] }), workflowOf([{ name: 'a', command: ['true'] }], 'deploy'))
    await putTool('go', { type: 'workflow', workflow: 'deploy' })
    const hash = await put(ASK)
    const first = await boundOf((await create(hash)).definition)
    const start = await engine.resources.startOf(ADMIN, { namespace: 'default', name: 'deploy', version: null })
    expect(first?.workflows['deploy']).toMatchObject({ hash: start.definition, inputs: null })
    await apply(workflowOf([{ name: 'b', command: ['true'] }], 'deploy'))
    const second = await boundOf((await create(hash)).definition)
    expect(second?.workflows['deploy']?.hash).not.toBe(start.definition)
  })

  test('that run a workflow of another namespace run it there', async () => {
    const deploy = doc('Workflow', 'deploy', { steps: [{ name: 'a', command: ['true'] }] }, 'ops')
    await apply(GPT, agent('writer', { tools: ['go'] }), deploy)
    await putTool('go', { type: 'workflow', workflow: 'ops/deploy', operation: 'read' })
    const worker = await rig.worker(engine, { backends: ['agent'] })
    await create(await put(ASK))
    const a = await worker.pollFirst()
    const at = { session: worker.session, step: a.step, fence: a.fence }
    const call = { call: 'c1', turn: 1, agent: 'writer', tool: 'go', input: {} }
    await engine.append(worker.caller, {
      ...at,
      n: 1,
      entries: [{ kind: 'tool_asked', ...call, operation: 'read', repeatable: true }],
    })
    const one = { call: 'c1', of: 'workflow', name: 'ops/deploy', inputs: {} } as const
    await worker.report(a, { kind: 'parked', on: { type: 'child', calls: [one] } })
    const { items } = await engine.listRuns(ADMIN, {
      namespace: 'ops',
      workflow: 'deploy',
      states: [],
      cursor: null,
      limit: 10,
    })
    expect(items).toHaveLength(1)
  })

  test('that run what is not there, or what may not be seen, are refused', async () => {
    await apply(
      GPT,
      agent('writer', { tools: ['go'] }),
      doc('Workflow', 'deploy', { steps: [{ name: 'a', command: ['true'] }] }, 'ops'),
    )
    const hash = await put(ASK)
    for (const workflow of ['deploi', 'deploy@9', 'not a name']) {
      await rig.db.query(`delete from resource where kind = 'Tool'`)
      await putTool('go', { type: 'workflow', workflow })
      expect(await failed(create(hash))).toMatchObject({
        code: 'resource.not_found',
        evidence: { kind: 'Workflow', name: workflow, by: 'tool go' },
      })
    }
    await rig.db.query(`delete from resource where kind = 'Tool'`)
    await putTool('go', { type: 'workflow', workflow: 'ops/deploy' })
    expect((await create(hash)).definition).not.toBe(hash)
    engine = rig.engine()
    const seer = { ...ADMIN, organisation: 'default', namespaces: ['default'] }
    expect(await failed(create(hash, seer))).toMatchObject({ code: 'resource.not_found' })
  })
})
