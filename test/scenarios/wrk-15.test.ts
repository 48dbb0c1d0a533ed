import { expect, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import { VERSION } from '../../src/app/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { eventually } from '../support/eventually.ts'
import { openScene, type Scene, WITHIN, writeBelow } from './rig.ts'

const doc = (kind: string, name: string, spec: JsonObject): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name },
  spec,
})
const credentials = { secret: 'openai', key: 'api-key' }
const GPT = doc('ModelEndpoint', 'gpt', { provider: 'openai', model: 'gpt-5-mini', credentials })
const WRITER = doc('Agent', 'writer', { model: 'gpt', instructions: 'Be brief.' })
const STEPS = [{ name: 'write', agent: 'writer', with: { prompt: 'Go.' } }]

async function apply(scene: Scene, ...documents: JsonObject[]): Promise<void> {
  const text = documents.map((document) => JSON.stringify(document)).join('\n---\n')
  const { code, stderr } = await scene.orrery('apply', '-f', writeBelow(scene.dir, 'given.yaml', text))
  expect([code, stderr]).toEqual([0, ''])
}

/** A worker that would take any step of agents; it comes again when it was away for too long. */
function takeAgents(scene: Scene): () => Promise<string[]> {
  const lane = scene.lane(scene.workerToken)
  let session: string | null = null
  const register = async (): Promise<string> => {
    const registered = await lane.register({
      worker: 'taker',
      version: VERSION,
      host: 'elsewhere',
      pid: 1,
      pidStart: null,
      clock: Date.now(),
      capacity: 4,
      labels: {},
      namespaces: null,
      backends: ['agent'],
      modules: [],
      replaces: session,
      held: [],
    })
    return registered.session
  }
  return async () => {
    session ??= await register()
    const { assignments, sessionState } = await lane.poll({ session, free: 4, held: [], draining: false })
    if (sessionState === 'ended') session = null
    return assignments.map(({ name }) => name)
  }
}

describeWithPostgres('WRK-15: a step needs a model endpoint or a secret that is not ready', (postgres) => {
  test('no worker is given it, the reason says what is missing, and it goes on once that is there', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), keepsSecrets: true })
    await apply(scene, GPT, WRITER)
    const poll = takeAgents(scene)
    const run = await scene.start(STEPS)
    expect(await poll()).toEqual([])
    expect(await scene.getStep(run, 'write')).toMatchObject({
      state: 'queued',
      fence: 0,
      reason: {
        code: 'dispatch.endpoint_not_ready',
        evidence: { endpoint: 'gpt', lacks: 'secret', secret: 'openai', key: 'api-key' },
      },
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toContain('dispatch.endpoint_not_ready')
    expect(shown.stdout).toContain('orrery secret set openai api-key=')

    expect((await scene.orrery('secret', 'set', 'openai', 'api-key=sk-test')).code).toBe(0)
    const given = await eventually(async () => ((await poll()).includes('write') ? true : null), {
      ...WITHIN,
      what: 'the step on a worker',
    })
    expect(given).toBe(true)
  })

  test('so with an endpoint that was deleted after the run was created', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), keepsSecrets: true })
    await apply(scene, GPT, WRITER)
    expect((await scene.orrery('secret', 'set', 'openai', 'api-key=sk-test')).code).toBe(0)
    const run = await scene.start([
      { name: 'hold', approval: 'Go on?' },
      { ...STEPS[0], needs: ['hold'] },
    ])
    expect((await scene.orrery('delete', 'modelendpoint', 'gpt')).code).toBe(0)
    const poll = takeAgents(scene)
    await scene.stepWith(run, 'hold', ({ state }) => state === 'waiting')
    expect((await scene.orrery('runs', 'approve', run, 'hold')).code).toBe(0)
    expect(await poll()).toEqual([])
    const step = await scene.stepWith(run, 'write', ({ reason }) => reason?.code === 'dispatch.endpoint_not_ready')
    expect(step.reason?.evidence).toMatchObject({ endpoint: 'gpt', lacks: 'endpoint' })
    await apply(scene, GPT)
    await eventually(async () => ((await poll()).includes('write') ? true : null), {
      ...WITHIN,
      what: 'the step on a worker',
    })
  })
})
