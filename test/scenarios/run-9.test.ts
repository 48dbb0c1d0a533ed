import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { startAgents } from './agents.ts'
import { openScene, refused, writeBelow } from './rig.ts'

const yaml = (...documents: JsonObject[]): string =>
  documents.map((document) => JSON.stringify(document)).join('\n---\n')
const doc = (kind: string, name: string, spec: JsonObject, namespace = 'default'): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name, namespace },
  spec,
})
const GPT = doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hello' }] } })
const agent = (name: string, more: JsonObject = {}, namespace = 'default') =>
  doc('Agent', name, { model: 'gpt', instructions: 'Be brief.', ...more }, namespace)
const asking = (name: string) => doc('Workflow', 'letters', { steps: [{ name: 'write', agent: name, with: 'Go.' }] })

describeWithPostgres('RUN-9: an agent is not there', (postgres) => {
  test('the run is refused before it exists, with the nearest name and where there is one', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const server = ['--server', scene.address, '--token', scene.adminToken]
    const stored = writeBelow(scene.dir, 'agents.yaml', yaml(GPT, agent('writer'), agent('auditor', {}, 'ops')))
    expect((await scene.orrery('apply', '-f', stored)).code).toBe(0)

    const file = writeBelow(scene.dir, 'wrong.yaml', yaml(asking('writr')))
    const wrong = await refused(['run', file, ...server])
    expect(wrong.exit).toBe(66)
    expect(wrong.failure).toMatchObject({
      code: 'agent.not_found',
      evidence: { name: 'writr', namespace: 'default', by: 'step write', nearest: 'writer' },
      remediation: expect.stringContaining('Did you mean writer?'),
    })
    const elsewhere = await refused(['run', writeBelow(scene.dir, 'far.yaml', yaml(asking('auditor'))), ...server])
    expect(elsewhere.failure).toMatchObject({
      code: 'agent.not_found',
      evidence: { name: 'auditor', namespaces: ['ops'] },
      remediation: expect.stringContaining('in namespace ops'),
    })
    expect(await scene.db.query('select id from run')).toEqual([])

    const good = await scene.client.createRun({ workflow: asking('writer') })
    expect(good.id).toMatch(/^run_/)
  })

  test('so is one whose agent gives work to one that is not there; stored, it starts', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const server = ['--server', scene.address, '--token', scene.adminToken]
    const stored = writeBelow(scene.dir, 'agents.yaml', yaml(GPT, agent('writer', { delegates: ['checker'] })))
    expect((await scene.orrery('apply', '-f', stored)).code).toBe(0)
    const file = writeBelow(scene.dir, 'letters.yaml', yaml(asking('writer')))
    const { failure } = await refused(['run', file, ...server])
    expect(failure).toMatchObject({
      code: 'agent.not_found',
      evidence: { name: 'checker', by: 'agent writer', field: 'delegates' },
      remediation: expect.stringContaining('orrery get agents -n default'),
    })
    const mended = writeBelow(scene.dir, 'checker.yaml', yaml(agent('checker')))
    expect((await scene.orrery('apply', '-f', mended)).code).toBe(0)
    expect((await scene.orrery('run', file, '--detach')).code).toBe(0)
  })

  test('a run below that names one fails its step, and goes on once it is stored', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.client.putDefinition({ workflow: asking('writer') })
    const run = await scene.start([{ name: 'below', workflow: 'letters' }])
    expect(await scene.ended(run)).toMatchObject({
      state: 'failed',
      failure: { code: 'agent.not_found', evidence: { name: 'writer' } },
    })
    const stored = writeBelow(scene.dir, 'agents.yaml', yaml(GPT, agent('writer')))
    expect((await scene.orrery('apply', '-f', stored)).code).toBe(0)
    await scene.client.retryRun(run)
    const step = await scene.stepWith(run, 'below', ({ state }) => state === 'waiting')
    expect(step.failure).toBeNull()
  })
})

describeWithPostgres('RUN-9: a policy keeps work from an agent', (postgres) => {
  test('it is told which policy, why, and what would pass; a policy that is changed holds from the next question on', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const writer = agent('writer', { delegates: ['research', 'billing'], handoffs: ['billing'] })
    const policy = (delegation: JsonObject) => doc('Policy', 'inside', { delegation })
    const apply = async (...documents: JsonObject[]) => {
      const file = writeBelow(scene.dir, 'rules.yaml', yaml(...documents))
      expect((await scene.orrery('apply', '-f', file)).code).toBe(0)
    }
    await apply(GPT, writer, agent('research'), agent('billing'), policy({ to: ['research'] }))
    const canI = (tool: string) => scene.orrery('can-i', 'writer', tool, 'write')

    expect(await canI('ask_research')).toMatchObject({ code: 0, stdout: expect.stringContaining('by agent/writer') })
    for (const tool of ['ask_billing', 'hand_over_to_billing']) {
      const blocked = await canI(tool)
      expect(blocked.code).toBe(1)
      expect(blocked.stdout).toContain('no  by policy/inside (policy.routing_blocked)')
      expect(blocked.stdout).toContain('gives no work to the agent billing; it lets pass research')
      expect(blocked.stdout).toContain('add billing to spec.delegation.to of policy/inside')
    }
    await apply(policy({ maxDepth: 0 }))
    const tooDeep = await canI('ask_research')
    expect(tooDeep).toMatchObject({ code: 1, stdout: expect.stringContaining('would be at depth 1') })
    await apply(policy({ to: ['*'] }))
    expect((await canI('ask_billing')).code).toBe(0)
  })
})

describe('RUN-9: a policy keeps work from an agent while it works', () => {
  test('the agent is told and goes on, no run is made for the work; with the policy changed the same work is done', async () => {
    const scene = await startAgents()
    const policy = (to: string[]) => scene.apply(yaml(doc('Policy', 'inside', { delegation: { to } })))
    const asks = { toolCalls: [{ name: 'ask_billing', input: { prompt: 'Send the bill.' } }] }
    const endpoint = (...replies: JsonObject[]) => ({ provider: 'mock', model: 'm', mock: { replies } })
    await scene.apply(
      yaml(
        doc('ModelEndpoint', 'gpt', endpoint(asks, { text: 'I did what I may.' })),
        doc('ModelEndpoint', 'small', endpoint({ text: 'The bill is sent.' })),
        agent('writer', { delegates: ['billing', 'research'] }),
        agent('billing', { model: 'small' }),
        agent('research', { model: 'small' }),
        asking('writer'),
      ),
    )
    await policy(['research'])
    const kept = await scene.run('letters')
    expect(kept).toMatchObject({ state: 'succeeded', stepList: [{ output: { text: 'I did what I may.' } }] })
    const journal = await scene.journal(kept.id, 'write')
    expect(journal.find(({ kind }) => kind === 'verdict')).toMatchObject({
      verdict: {
        verdict: 'deny',
        code: 'policy.routing_blocked',
        rule: 'policy/inside',
        reason: expect.stringContaining('gives no work to the agent billing; it lets pass research'),
        remediation: expect.stringContaining('add billing to spec.delegation.to of policy/inside'),
      },
    })
    // What the model is told is what the journal has as the result of its call.
    expect(journal.filter(({ kind }) => kind === 'child_started')).toEqual([])
    const shown = await scene.orrery('runs', 'transcript', kept.id, 'write')
    expect(shown.stdout).toContain('policy.routing_blocked')
    expect(shown.stdout).toContain('it lets pass research')
    expect((await scene.orrery('audit', '--denied', '--json')).stdout).toContain('policy/inside')

    await policy(['billing'])
    const done = await scene.run('letters')
    expect(done.state).toBe('succeeded')
    const after = await scene.journal(done.id, 'write')
    const child = after.find(({ kind }) => kind === 'child_ended')
    expect(child).toMatchObject({ result: { ok: true, output: { text: 'The bill is sent.' } } })
    expect(await scene.ended(String(child?.['run']))).toMatchObject({ state: 'succeeded' })
  })
})
