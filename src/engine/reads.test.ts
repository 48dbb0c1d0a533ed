import { expect, test } from 'vitest'
import { parseSelector } from '../domain/kinds/selector.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

test('the last event is told as such also when it fills the page', async () => {
  const { worker, runId, a } = await rig.startHeld(engine)
  await worker.report(a, { kind: 'succeeded', output: null })
  const all = await engine.listEvents(ADMIN, runId, 0, 100)
  expect(all.map((e) => e.terminal)).toEqual([...all.slice(1).map(() => false), true])
  expect(await engine.listEvents(ADMIN, runId, 0, all.length)).toEqual(all)
  const earlier = await engine.listEvents(ADMIN, runId, 0, all.length - 1)
  expect(earlier).toEqual(all.slice(0, -1))
})

test('a list of runs is filtered by labels and by when they were created', async () => {
  const definition = await rig.put(engine, [{ name: 'a' }])
  const start = async (labels: Record<string, string>): Promise<string> => {
    const run = { definition, inputs: {}, labels, idempotencyKey: null, fingerprint: null }
    const [made] = await engine.createRuns(ADMIN, [run])
    if (made?.kind !== 'created') throw new Error('no run')
    return made.runId
  }
  const core = await start({ team: 'core', tier: 'web' })
  const other = await start({ team: 'other' })
  const bare = await start({})
  await rig.advance(60_000)
  const late = await start({ team: 'core' })
  const list = async (selector: string, since: string | null = null): Promise<string[]> => {
    const parsed = parseSelector(selector)
    const terms = selector !== '' && parsed.kind === 'parsed' ? parsed.terms : []
    const all = { namespace: null, workflow: null, states: [], cursor: null, limit: 10 }
    return (await engine.listRuns(ADMIN, { ...all, terms, since })).items.map((run) => run.id)
  }
  expect(await list('')).toEqual([late, bare, other, core])
  expect(await list('team=core')).toEqual([late, core])
  expect(await list('team=core,tier')).toEqual([core])
  expect(await list('team!=core')).toEqual([bare, other])
  expect(await list('team in (core, other),!tier')).toEqual([late, other])
  const since = (await engine.getRun(ADMIN, late)).createdAt
  expect(await list('', since)).toEqual([late])
  expect(await list('team=core', (await engine.getRun(ADMIN, core)).createdAt)).toEqual([late, core])
})
