import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readResources } from '../../src/domain/kinds/documents.ts'
import { ADMIN, type EngineRig, useRig } from '../../src/engine/testing/rig.ts'

const HERE = new URL('./', import.meta.url)

let rig: EngineRig
useRig((given) => {
  rig = given
})

test('the manifests of this folder apply as they are', async () => {
  const text = readFileSync(new URL('rules.yaml', HERE), 'utf8')
  const { documents, problems } = readResources([{ text, file: 'rules.yaml' }], null)
  expect(problems).toEqual([])
  const applied = await rig.engine().resources.apply(ADMIN, documents, { dryRun: false })
  expect(applied.resources.map(({ kind, name, outcome }) => `${kind} ${name} ${outcome}`)).toEqual([
    'Role reporter created',
    'Policy no-deletes created',
    'Policy customer-data created',
    'Policy bounds created',
  ])
})
