import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gatewayOf, say } from '../../src/agents/testing/gateway-rig.ts'
import type { JsonObject } from '../../src/base/json.ts'
import { findRealModel } from './install.ts'
import { tinyGguf } from './tiny-gguf.ts'

const packages = findRealModel()
const why = packages.kind === 'missing' ? `: ${packages.reason}` : ''

/** A real engine with a model that has learned nothing: tokens, limits, streams and grammars that no script of ours wrote. */
describe.skipIf(packages.kind === 'missing')(`a real engine${why}`, () => {
  const directory = mkdtempSync(join(tmpdir(), 'orrery-model-'))
  let endpoint: JsonObject = {}
  let stop = () => {}

  beforeAll(async () => {
    if (packages.kind === 'missing') return
    const model = join(directory, 'tiny.gguf')
    writeFileSync(model, tinyGguf())
    const server = spawn(process.execPath, [join(import.meta.dirname, 'serve.mjs'), packages.directory, model], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    stop = () => void server.kill('SIGKILL')
    const lines = createInterface({ input: server.stdout })
    const port = await new Promise<string>((resolve, reject) => {
      lines.once('line', resolve)
      server.once('exit', (code) => reject(new Error(`the engine ended with ${code}`)))
    })
    endpoint = {
      provider: 'openai-compatible',
      model: 'tiny',
      baseUrl: `http://127.0.0.1:${port}/v1`,
      local: true,
      defaults: { maxTokens: 24 },
    }
  })
  afterAll(() => {
    stop()
    rmSync(directory, { recursive: true, force: true })
  })

  test('what it says comes in parts as it is made, with its own count of tokens', async () => {
    const events = await gatewayOf({ endpoints: { tiny: endpoint } }).events('tiny', say('hello'))
    const parts = events.filter((event) => event.type === 'text')
    const last = events.at(-1)
    expect(parts.length).toBeGreaterThan(2)
    expect(last).toMatchObject({ type: 'finished', result: { finish: 'length', usage: { isEstimated: false } } })
    if (last?.type !== 'finished') throw new Error('not finished')
    expect(parts.map((part) => part.text).join('')).toBe(last.result.text)
    expect(last.result.usage.outputTokens).toBeGreaterThan(0)
  })

  test('garbage under a grammar is JSON of the schema that was asked for', async () => {
    const schema = {
      type: 'object',
      properties: { severity: { enum: ['low', 'high'] }, certain: { type: 'boolean' } },
      required: ['severity', 'certain'],
      additionalProperties: false,
    }
    const { output } = await gatewayOf({ endpoints: { tiny: endpoint } }).result('tiny', {
      ...say('how bad is it?'),
      output: { schema },
      maxTokens: 120,
    })
    expect(output?.problems).toEqual([])
    expect(output?.value).toEqual({ severity: expect.stringMatching(/^(low|high)$/), certain: expect.any(Boolean) })
  })

  test('a grammar that was cut off by the limit is no JSON, and that is told', async () => {
    const schema = { type: 'object', properties: { text: { type: 'string', minLength: 100 } }, required: ['text'] }
    const result = await gatewayOf({ endpoints: { tiny: endpoint } }).result('tiny', {
      ...say('write much'),
      output: { schema },
      maxTokens: 12,
    })
    expect(result.finish).toBe('length')
    expect(result.output).toMatchObject({ value: null, problems: [expect.stringContaining('is no JSON')] })
  })

  test('more than its context takes is told with the sizes, and asked once', async () => {
    const rig = gatewayOf({ endpoints: { tiny: endpoint } })
    const failure = await rig.failure('tiny', say('far too long '.repeat(100)))
    expect(failure).toMatchObject({ code: 'model.context_exceeded', evidence: { endpoint: 'tiny' } })
    expect(rig.sent).toHaveLength(1)
  })

  test('a call that is left off ends the engine’s work on it: the next one is answered', async () => {
    const rig = gatewayOf({ endpoints: { tiny: { ...endpoint, defaults: { maxTokens: 200 } } } })
    const left = new AbortController()
    const call = rig.call('tiny', say('on and on'), { signal: left.signal })
    await call.next()
    left.abort(new Error('nobody needs it'))
    await expect(call.next()).rejects.toThrow('nobody needs it')
    expect((await rig.result('tiny', { ...say('and now?'), maxTokens: 4 })).finish).toBe('length')
  })
})
