import { expect, test } from 'vitest'
import type { AnySpec } from '../domain/testing/definitions.ts'
import { reachOf } from '../domain/tenancy.ts'
import { putToken } from '../store/tokens/tokens.ts'
import type { RunningEngine } from './create-engine.ts'
import type { Caller } from './engine.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const ask: AnySpec = {
  name: 'ship',
  kind: 'approval',
  message: 'Ship it?',
  approvers: ['ann'],
  expiresMs: null,
  onExpiry: 'deny',
  fields: null,
}
const personOf = async (name: string, organisation: string): Promise<Caller> => {
  await putToken(rig.db, { id: `tok_${name}`, name, secret: name, role: 'operator', organisation, namespaces: null })
  return { ...ADMIN, actor: `tok_${name}`, organisation, namespaces: reachOf(organisation, null) }
}

test('what waits for people is told of what the caller sees; who may decide is looked at whoever asks', async () => {
  const ann = await personOf('ann', 'acme')
  const bob = await personOf('bob', 'globex')
  const runId = await rig.start(engine, await rig.put(engine, [ask], { namespace: 'acme/default' }))
  await engine.tick()
  const of = async (caller: Caller) => (await engine.examine(caller)).approvals
  const asked = { run: runId, step: 'ship', namespace: 'acme/default', approvers: ['ann'] }
  expect(await of(ADMIN)).toMatchObject({ seesAll: true, pending: [asked] })
  const tokens = [
    { name: 'bob', reach: ['globex/*'], isSeen: false },
    { name: 'ann', reach: ['acme/*'], isSeen: true },
  ]
  expect(await of(ann)).toMatchObject({ seesAll: false, pending: [asked], tokens })
  expect(await of(bob)).toMatchObject({ seesAll: false, pending: [] })
})

test('a server on the embedded store has nobody to hear', async () => {
  expect((await engine.examine(ADMIN)).bus).toBeNull()
})
