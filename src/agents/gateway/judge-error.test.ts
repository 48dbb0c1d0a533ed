import { describe, expect, test } from 'vitest'
import { Redactor } from '../../base/redact.ts'
import { readModelEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type About, judgeError } from './judge-error.ts'
import { ProviderRefusal, readProviderError } from './provider-error.ts'

const spec = readModelEndpoint({ provider: 'openai', model: 'gpt-4o', credentials: { secret: 's', key: 'k' } })
const ABOUT: About = { endpoint: 'gpt', spec, estimatedTokens: 77, known: [], now: 1_000_000 }

const refusal = (status: number, body: unknown, headers: Record<string, string> = {}) =>
  Object.assign(new ProviderRefusal(status, 'Bad Request', headers), {
    responseBody: typeof body === 'string' ? body : JSON.stringify(body),
  })
const KEY = 'the-key-of-the-endpoint'
const redactor = new Redactor([KEY])
const judge = (error: unknown, about: Partial<About> = {}) =>
  judgeError(readProviderError(error, redactor), { ...ABOUT, ...about })
const codeOf = (error: unknown) => judge(error).failure.code

describe('what a provider says means', () => {
  test.for<[code: string, error: unknown]>([
    ['model.auth_failed', refusal(401, { error: { message: 'Incorrect API key provided', code: 'invalid_api_key' } })],
    ['model.auth_failed', refusal(403, { message: 'not allowed' })],
    ['model.auth_failed', refusal(400, { error: { message: 'API key not valid. Please pass a valid API key.' } })],
    ['model.auth_failed', refusal(400, { message: 'The security token included in the request is invalid.' })],
    ['model.not_found', refusal(404, { error: { type: 'not_found_error', message: 'model: claude-9' } })],
    ['model.not_found', refusal(400, { error: { message: 'x', code: 'model_not_found' } })],
    ['model.not_found', refusal(400, { message: 'The provided model identifier is invalid.' })],
    ['model.not_found', refusal(404, { error: { code: 'DeploymentNotFound', message: 'no deployment' } })],
    ['model.not_found', { type: 'error', message: "The model 'x' does not exist" }],
    ['model.rate_limited', refusal(429, { error: { message: 'Rate limit reached' } })],
    ['model.rate_limited', { type: 'rate_limit_error', message: 'in the middle of a stream' }],
    ['model.unavailable', { type: 'overloaded_error', message: 'Overloaded' }],
    ['model.unavailable', refusal(529, { error: { type: 'overloaded_error', message: 'Overloaded' } })],
    ['model.unavailable', refusal(500, '<html>Bad gateway</html>')],
    ['model.unavailable', refusal(409, 'conflict')],
    ['model.unavailable', new TypeError('fetch failed', { cause: new Error('getaddrinfo ENOTFOUND x') })],
    ['model.unavailable', 'what is this'],
    ['model.unavailable', null],
    ['model.timeout', refusal(408, 'Request timeout')],
    ['model.context_exceeded', refusal(413, 'Request too large')],
    ['model.context_exceeded', refusal(400, { error: { message: 'x', code: 'context_length_exceeded' } })],
    ['model.context_exceeded', refusal(400, { message: 'Input is too long for requested model.' })],
    ['model.context_exceeded', refusal(400, { error: { message: 'the request exceeds the available context size' } })],
    ['model.request_rejected', refusal(400, { error: { message: "Unsupported value: 'temperature'" } })],
    ['model.request_rejected', refusal(422, { detail: 'odd' })],
  ])('%s: %o', ([code, error]) => expect(codeOf(error)).toBe(code))
})

test('the answer is shown without its wrapping, in full only as far as a person reads', () => {
  const answers = [
    refusal(400, { error: { message: 'of OpenAI', type: 'invalid_request_error' } }),
    refusal(400, [{ error: { message: 'of Google', status: 'INVALID_ARGUMENT' } }]),
    refusal(400, { message: 'of AWS', __type: 'ValidationException' }),
    refusal(400, { error: 'of Ollama' }),
    refusal(400, 'of a proxy'),
  ].map((error) => judge(error).failure.evidence?.['answer'])
  expect(answers).toEqual(['of OpenAI', 'of Google', 'of AWS', 'of Ollama', 'of a proxy'])
  expect(String(judge(refusal(400, 'x'.repeat(10_000))).failure.evidence?.['answer']).length).toBeLessThan(2_100)
})

test('of a key that the provider repeats nothing is shown: not in its word, and not where the answer is cut', () => {
  const told = judge(refusal(400, { error: { message: `no ${KEY}`, code: `bad_${KEY}` } })).failure.evidence
  expect(told).toMatchObject({ answer: 'no [secret]', code: 'bad_[secret]' })
  const before = 'x'.repeat(LIMITS.modelRefusalChars - 10)
  const cut = String(judge(refusal(400, `${before}${KEY} and more`)).failure.evidence?.['answer'])
  expect(cut.slice(before.length)).toBe('[secret] a…')
})

test.for<[headers: Record<string, string>, waitMs: number | null]>([
  [{}, null],
  [{ 'retry-after': '7' }, 7_000],
  [{ 'retry-after': '0.5' }, 500],
  [{ 'retry-after': new Date(1_030_000).toUTCString() }, 30_000],
  [{ 'retry-after': new Date(0).toUTCString() }, 0],
  [{ 'retry-after': 'soon' }, null],
  [{ 'retry-after': '-1' }, null],
  [{ 'retry-after': ' ' }, null],
  [{ 'retry-after-ms': '120', 'retry-after': '9' }, 120],
  [{ 'retry-after': '1e300' }, 24 * 3_600_000],
])('Retry-After of %o is %s ms', ([headers, waitMs]) =>
  expect(judge(refusal(429, 'slow down', headers)).retryAfterMs).toBe(waitMs),
)

test('a quota that is used up is not asked again in a moment', () => {
  const error = refusal(429, { error: { message: 'You exceeded your quota', code: 'insufficient_quota' } })
  expect(judge(error)).toMatchObject({ isPassing: false, failure: { code: 'model.rate_limited' } })
  expect(judge(refusal(429, 'slow down')).isPassing).toBe(true)
})

test.for<[message: string, sizes: object]>([
  [
    'maximum context length is 8192 tokens. However, your messages resulted in 9051 tokens',
    { limitTokens: 8192, requestTokens: 9051 },
  ],
  ['prompt is too long: 208,310 tokens > 200,000 maximum', { limitTokens: 200_000, requestTokens: 208_310 }],
  ['maximum context length is 8192 tokens', { limitTokens: 8192, estimatedTokens: 77 }],
  ['Input is too long for requested model.', { estimatedTokens: 77 }],
])('sizes in: %s', ([message, sizes]) => expect(judge(refusal(400, { message })).failure.evidence).toMatchObject(sizes))

test('a model that is not there is held against those that are configured', () => {
  const error = refusal(404, 'no')
  const known = [
    { endpoint: 'gpt', provider: 'openai' as const, model: 'gpt-4o' },
    { endpoint: 'near', provider: 'openai' as const, model: 'gpt-4.1' },
  ]
  expect(judge(error, { known }).failure).toMatchObject({
    evidence: { nearest: 'gpt-4.1' },
    remediation: expect.stringContaining('endpoint near'),
  })
  const other = [...known, { endpoint: 'azure', provider: 'azure-openai' as const, model: 'gpt-4o' }]
  expect(judge(error, { known: other }).failure).toMatchObject({
    evidence: { nearest: 'azure' },
    remediation: expect.stringContaining('spec.provider'),
  })
  expect(judge(error).failure.evidence).not.toHaveProperty('nearest')
})
