import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import type { ModelEvent, ModelResult } from '../../domain/model-call.ts'
import { Failure } from '../../domain/failure.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { modelResult } from '../testing/scripted-client.ts'

const failure = new Failure('model.rate_limited', 'asking').toRecord()
const text = (piece: string): ModelEvent => ({ type: 'text', text: piece })
const retrying = (isVoid: boolean): ModelEvent => ({
  type: 'retrying',
  endpoint: 'gpt',
  delayMs: 1_500,
  isVoid,
  failure,
})
const finished = (more: Partial<ModelResult> = {}): ModelEvent => ({ type: 'finished', result: modelResult(more) })

const asking = (...events: ModelEvent[]) => {
  const cli = new CliHarness()
  cli.client.modelEvents = events
  return cli
}

describe('models ask', () => {
  test('prints the answer as it comes, and what it took beside it', async () => {
    const cli = asking(retrying(false), text('Good '), text('day.\u001b[31m'), finished())
    expect(await cli.run('models', 'ask', 'gpt', 'hello', '--max-tokens', '9', '--temperature', '0')).toBe(0)
    expect(cli.out).toMatch(/^Good day\..*\n$/)
    expect(cli.out).not.toContain('\u001b')
    expect(cli.err).toContain('model.rate_limited: asking gpt in 1.5s.')
    expect(cli.err).toContain('gpt: openai gpt-5-mini, 12 ms to the first part, 20 ms in all')
    expect(cli.err).toContain('12 (4 cached) + 3 tokens, 0.0012 USD')
    expect(cli.err).toContain('unsupported: seed')
    expect(cli.client.calls).toEqual([
      ['askModel', 'default', 'gpt', { prompt: 'hello', maxTokens: 9, temperature: 0 }],
    ])
  })

  test('says when what it printed is void', async () => {
    const cli = asking(text('Goo'), retrying(true), text('Good day.'), finished({ finish: 'length' }))
    expect(await cli.run('models', 'ask', 'gpt', 'hello')).toBe(0)
    expect(cli.out).toBe('Goo\nGood day.\n')
    expect(cli.err).toContain('void')
    expect(cli.err).toContain('cut off at its longest')
  })

  test('reads what to ask from a file or standard input, and asks the one endpoint alone', async () => {
    const cli = asking(finished())
    cli.files['/srv/q.txt'] = 'from a file'
    const flags = ['--no-fallbacks', '--system', '@q.txt', '-n', 'team', '-o', 'json']
    expect(await cli.run('models', 'ask', 'gpt', '@q.txt', ...flags)).toBe(0)
    expect(cli.client.calls[0]).toEqual([
      'askModel',
      'team',
      'gpt',
      { prompt: 'from a file', system: 'from a file', useFallbacks: false },
    ])
    expect(JSON.parse(cli.out)).toMatchObject({ text: 'Good day.', usage: { inputTokens: 12 } })
  })

  test.for([
    ['an empty prompt', ['ask', 'gpt', ' '], /the prompt is empty/],
    ['a number that is none', ['ask', 'gpt', 'x', '--max-tokens', 'many'], /--max-tokens many is no number/],
  ] as const)('refuses %s', async ([, args, message]) => {
    const cli = asking()
    expect(await cli.run('models', ...args)).toBe(2)
    expect(cli.err).toMatch(message)
    expect(cli.client.calls).toEqual([])
  })

  test('ends with the failure of the model', async () => {
    const cli = asking()
    cli.client.failures.set('askModel', new Failure('model.timeout', 'waiting', { evidence: { endpoint: 'gpt' } }))
    expect(await cli.run('models', 'ask', 'gpt', 'hello')).toBe(124)
    expect(cli.err).toContain('model.timeout')
  })
})

test('models test asks without fallbacks and says that it answers', async () => {
  const cli = asking(retrying(false), text('ready'), finished())
  expect(await cli.run('models', 'test', 'gpt')).toBe(0)
  expect(cli.out).toMatch(/✓ gpt answers +gpt: openai gpt-5-mini, 12 ms/)
  expect(cli.client.calls[0]?.[3]).toMatchObject({ useFallbacks: false })
})

describe('models list', () => {
  const listing = (specs: Record<string, JsonObject>, found: Record<string, boolean> = {}) => {
    const cli = new CliHarness()
    const items = Object.entries(specs).map(([name, spec]) => ({ metadata: { name, namespace: 'default' }, spec }))
    const resources = { list: () => Promise.resolve({ items, next: null }) }
    cli.client.resources = resources as unknown as typeof cli.client.resources // the one method that is asked
    cli.client.getSecret = (...args: unknown[]) => {
      const [namespace, name, { keys }] = args as [string, string, { keys: string[] }] // as the client takes them
      const place = (key: string) => ({ from: 'store' as const, name: 'x', found: found[key] ?? false, note: null })
      return Promise.resolve({
        namespace,
        name,
        keys: keys.map((key) => ({ key, stored: null, places: [place(key)] })),
      })
    }
    return cli
  }
  const openai = (key: string) => ({ provider: 'openai', model: 'm', credentials: { secret: 's', key } })

  test('says which keys are missing, who is local and who stands in', async () => {
    const cli = listing(
      {
        one: openai('there'),
        two: openai('not'),
        three: { provider: 'ollama', model: 'l', local: true, fallbacks: ['x'] },
      },
      { there: true },
    )
    expect(await cli.run('models', 'list', '-o', 'wide')).toBe(0)
    expect(cli.out).toMatch(/one +openai +m +- +found +- +https:\/\/api\.openai\.com\/v1/)
    expect(cli.out).toMatch(/two +openai +m +- +missing/)
    expect(cli.out).toMatch(/three +ollama +l +yes +- +x +http:\/\/127\.0\.0\.1:11434/)
    const names = listing({ one: openai('a') })
    expect(await names.run('models', 'list', '-o', 'name')).toBe(0)
    expect(names.out).toBe('one\n')
  })

  test('shows what a newer server has as far as it is understood', async () => {
    const cli = listing({ one: { provider: 'of-tomorrow', model: 'm', own: true } })
    expect(await cli.run('models', 'list')).toBe(0)
    expect(cli.out).toMatch(/one +of-tomorrow +m +- +-/)
  })

  test('of nothing says how to declare one', async () => {
    const cli = listing({})
    expect(await cli.run('models')).toBe(0)
    expect(cli.err).toContain('orrery apply -f FILE')
  })
})
