import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { resultOf } from '../../src/agents/index.ts'
import { readResources } from '../../src/domain/kinds/documents.ts'
import { ADMIN, type EngineRig, useRig } from '../../src/engine/testing/rig.ts'

const HERE = new URL('./', import.meta.url)

let rig: EngineRig
useRig((given) => {
  rig = given
})

test('the manifests of this folder apply as they are, and what needs nobody answers', async () => {
  const files = readdirSync(HERE).filter((file) => file.endsWith('.yaml'))
  const texts = files.toSorted().map((file) => ({ file, text: readFileSync(new URL(file, HERE), 'utf8') }))
  const { documents, problems } = readResources(texts, null)
  expect(problems).toEqual([])
  const engine = rig.engine()
  const applied = await engine.resources.apply(ADMIN, documents, { dryRun: false })
  expect(applied.resources.every((r) => r.outcome === 'created')).toBe(true)
  const signal = new AbortController().signal
  const at = { namespace: 'default', name: 'scripted' }
  const ask = async (prompt: string) => resultOf(await engine.askModel(ADMIN, at, { prompt }, signal))
  expect(await ask('hello')).toMatchObject({
    text: 'Hello. I am scripted; nobody was asked.',
    usage: { inputTokens: 12, outputTokens: 9 },
    cost: { currency: 'USD', amount: 0.00003 },
  })
  expect((await ask('How is the weather?')).toolCalls).toMatchObject([{ name: 'weather', input: { city: 'Oslo' } }])
})

test('so do those of the guide', () => {
  const guide = readFileSync(new URL('../../docs/guides/models.md', HERE), 'utf8')
  const texts = [...guide.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ''], i) => ({ file: `block ${i}`, text }))
  const { documents, problems } = readResources(texts, null)
  expect(problems).toEqual([])
  expect(documents.map(({ name }) => name)).toEqual(['gpt', 'llama', 'contract', 'moody'])
})
