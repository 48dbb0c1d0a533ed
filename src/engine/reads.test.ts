import { expect, test } from 'vitest'
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
