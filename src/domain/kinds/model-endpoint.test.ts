import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readResources } from './documents.ts'
import { addressOf, mayCallPrivate, readModelEndpoint, secretsOfEndpoint } from './model-endpoint.ts'

const credentials = { secret: 's', key: 'k' }
const read = (kind: string, spec: JsonObject) =>
  readResources(
    [{ text: JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name: 'it' }, spec }), file: 'm.json' }],
    null,
  )
const problemsOf = (spec: JsonObject, kind = 'ModelEndpoint') =>
  read(kind, spec).problems.map(({ path, message, line }) => (line === 1 ? `${path} ${message}` : 'no place'))

describe('a ModelEndpoint', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['an unknown provider', { provider: 'opnai', model: 'm' }, /^spec\.provider must be one of openai, anthropic/],
    ['an unknown key', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] }, modle: 1 }, /^spec\.modle/],
    ['openai without a key', { provider: 'openai', model: 'm' }, /^spec\.credentials is required for openai/],
    ['anthropic without a key', { provider: 'anthropic', model: 'm' }, /^spec\.credentials is required/],
    ['google without a key', { provider: 'google', model: 'm' }, /^spec\.credentials is required/],
    ['a compatible one that is nowhere', { provider: 'openai-compatible', model: 'm' }, /^spec\.baseUrl is required/],
    ['azure without a deployment', { provider: 'azure-openai', model: 'm', credentials }, /^spec\.azure is required/],
    [
      'azure that is nowhere',
      { provider: 'azure-openai', model: 'm', credentials, azure: { deployment: 'd' } },
      /^spec\.azure\.resource is required unless/,
    ],
    [
      'azure in two places',
      {
        provider: 'azure-openai',
        model: 'm',
        credentials,
        azure: { deployment: 'd', resource: 'r' },
        baseUrl: 'https://x.test',
      },
      /^spec\.baseUrl says where the endpoint is/,
    ],
    ['bedrock without a region', { provider: 'bedrock', model: 'm', credentials }, /^spec\.bedrock is required/],
    [
      'bedrock without a key',
      { provider: 'bedrock', model: 'm', bedrock: { region: 'eu-west-1' } },
      /^spec\.credentials is required for bedrock, or/,
    ],
    [
      'bedrock with half a key',
      { provider: 'bedrock', model: 'm', bedrock: { region: 'eu-west-1', accessKeyId: credentials } },
      /^spec\.bedrock\.secretAccessKey is required beside accessKeyId/,
    ],
    [
      'bedrock with two keys',
      { provider: 'bedrock', model: 'm', credentials, bedrock: { region: 'eu-west-1', accessKeyId: credentials } },
      /leave one out/,
    ],
    [
      'what belongs to another provider',
      { provider: 'ollama', model: 'm', bedrock: { region: 'eu-west-1' } },
      /^spec\.bedrock is for the provider bedrock; this one is ollama/,
    ],
    ['a mock without a script', { provider: 'mock', model: 'm' }, /^spec\.mock is required/],
    [
      'a mock that is somewhere',
      { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x' }] }, baseUrl: 'http://x.test' },
      /^spec\.baseUrl has no meaning for mock/,
    ],
    [
      'a reply that says nothing',
      { provider: 'mock', model: 'm', mock: { replies: [{ delay: '1s' }] } },
      /^spec\.mock\.replies\[0\] says nothing/,
    ],
    [
      'a reply that says two things',
      { provider: 'mock', model: 'm', mock: { replies: [{ text: 'x', json: 1 }] } },
      /^spec\.mock\.replies\[0\]\.json cannot stand beside text/,
    ],
    ['itself as a fallback', { provider: 'ollama', model: 'm', fallbacks: ['it'] }, /^spec\.fallbacks\[0\] is this/],
    ['a fallback twice', { provider: 'ollama', model: 'm', fallbacks: ['a', 'a'] }, /^spec\.fallbacks\[1\] is there/],
    [
      'a local one that is public',
      { provider: 'ollama', model: 'm', local: true, allowPrivateAddresses: false },
      /^spec\.allowPrivateAddresses must be true/,
    ],
    ['an address with a password', { provider: 'ollama', model: 'm', baseUrl: 'http://a:b@x.test' }, /no user and no/],
    ['an address that is none', { provider: 'ollama', model: 'm', baseUrl: 'x.test/v1' }, /must be an address/],
    ['a duration that is none', { provider: 'ollama', model: 'm', timeouts: { total: '5' } }, /is no duration/],
  ])('is refused with its place: %s', ([, spec, problem]) =>
    expect(problemsOf(spec)).toEqual([expect.stringMatching(problem)]),
  )

  test('is filled in where the manifest says nothing', () => {
    const spec = readModelEndpoint({ provider: 'ollama', model: 'm', retry: 4 })
    expect(spec).toMatchObject({
      timeouts: { total: 300_000, firstToken: 60_000, idle: 60_000 },
      retry: { max: 4, initial: 500, maxDelay: 30_000, factor: 2, jitter: 0.2 },
      local: false,
      promptCaching: true,
      defaults: {},
    })
    expect(mayCallPrivate(spec)).toBe(true)
    expect(mayCallPrivate(readModelEndpoint({ provider: 'openai', model: 'm', credentials }))).toBe(false)
    expect(mayCallPrivate(readModelEndpoint({ provider: 'openai', model: 'm', credentials, local: true }))).toBe(true)
  })

  test('is where its provider is, or where it says', () => {
    const at = (spec: JsonObject) => addressOf(readModelEndpoint({ model: 'm', ...spec }))
    expect(at({ provider: 'openai' })).toBe('https://api.openai.com/v1')
    expect(at({ provider: 'ollama', baseUrl: 'http://10.0.0.1:11434/' })).toBe('http://10.0.0.1:11434')
    expect(at({ provider: 'azure-openai', azure: { resource: 'r', deployment: 'd' } })).toBe(
      'https://r.openai.azure.com/openai',
    )
    expect(at({ provider: 'bedrock', bedrock: { region: 'eu-west-1' } })).toBe(
      'https://bedrock-runtime.eu-west-1.amazonaws.com',
    )
    expect(at({ provider: 'bedrock', bedrock: { region: 'cn-north-1' } })).toMatch(/cn-north-1\.amazonaws\.com\.cn$/)
    expect(at({ provider: 'mock' })).toBeNull()
  })

  test('tells which secrets open it', () => {
    const bedrock = { region: 'eu-west-1', accessKeyId: credentials, secretAccessKey: { secret: 's', key: 'x' } }
    const uses = secretsOfEndpoint(readModelEndpoint({ provider: 'bedrock', model: 'm', bedrock }))
    expect(uses.map(({ use, ref }) => `${use} ${ref.key}`)).toEqual(['accessKeyId k', 'secretAccessKey x'])
  })
})

test('a PriceTable is refused where a row would never count', () => {
  const rows = [
    { model: 'a', input: 1, output: 1 },
    { provider: 'openai', model: 'a', input: 1, output: 1 },
    { model: 'a', input: 2, output: 2 },
  ]
  expect(problemsOf({ currency: 'USD', rows }, 'PriceTable')).toEqual([
    'spec.rows[2] is hidden by rows[0], which is for the same models',
  ])
  expect(problemsOf({ currency: 'usd', rows: rows.slice(0, 1) }, 'PriceTable')).toEqual([
    'spec.currency must be three capital letters, such as USD',
  ])
})
