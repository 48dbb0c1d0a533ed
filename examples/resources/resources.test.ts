import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { readResources } from '../../src/domain/kinds/documents.ts'
import { ADMIN, type EngineRig, useRig } from '../../src/engine/testing/rig.ts'

const HERE = new URL('./', import.meta.url)

let rig: EngineRig
useRig((given) => {
  rig = given
})

test('the manifests of this folder apply as they are', async () => {
  const files = readdirSync(HERE).filter((file) => file.endsWith('.yaml'))
  const texts = files.toSorted().map((file) => ({ file, text: readFileSync(new URL(file, HERE), 'utf8') }))
  const { documents, problems } = readResources(texts, null)
  expect(problems).toEqual([])
  const { resources } = rig.engine()
  const apply = async () => (await resources.apply(ADMIN, documents, { dryRun: false })).resources
  expect((await apply()).map((r) => `${r.name} ${r.outcome}`)).toEqual([
    'hello created',
    'nightly-clean created',
    'nightly-report created',
    'weather created',
  ])
  expect((await apply()).every((r) => r.outcome === 'unchanged')).toBe(true)
  const start = (name: string) => resources.startOf(ADMIN, { namespace: 'default', name, version: null })
  expect(await start('hello')).toMatchObject({ version: 1, labels: { team: 'docs' } })
  await expect(start('nightly-report')).rejects.toMatchObject({ code: 'workflow.inactive' })
})
