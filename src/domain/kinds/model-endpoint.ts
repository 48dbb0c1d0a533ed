import { z } from 'zod'
import type { Json, JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { duration, positiveDuration, secretRef } from '../schema.ts'
import { dnsName } from './envelope.ts'
import { addressOfHttp } from './http-address.ts'
import { defineKind, READY } from './kind.ts'

export const PROVIDERS = [
  'openai',
  'anthropic',
  'azure-openai',
  'bedrock',
  'google',
  'ollama',
  'openai-compatible',
  'mock',
] as const
export type Provider = (typeof PROVIDERS)[number]

/** Where each provider is when the manifest names no address; the others say it with `azure` or `bedrock`, or have to name one. */
export const PROVIDER_ADDRESSES: Partial<Record<Provider, string>> = {
  openai: 'https://api.openai.com/v1',
  anthropic: 'https://api.anthropic.com/v1',
  google: 'https://generativelanguage.googleapis.com/v1beta',
  ollama: 'http://127.0.0.1:11434',
}

const perMinute = z.int().min(1).max(100_000_000)

const retryObject = z.strictObject({
  max: z.int().min(0).max(20).default(2).describe('Tries after the first one, for what passes by itself.'),
  initial: duration.default(500).describe('Wait before the first of them, when the provider names no time.'),
  maxDelay: duration
    .default(30_000)
    .describe('Longest wait. A provider that asks for a longer one is left for the next fallback.'),
  factor: z.number().min(1).max(100).default(2).describe('Each wait is so many times the one before.'),
  jitter: z.number().min(0).max(1).default(0.2).describe('Share of a wait that is left to chance.'),
})

const timeouts = z.strictObject({
  total: positiveDuration.default(300_000).describe('One try, from the request to the end of the answer.'),
  firstToken: positiveDuration.default(60_000).describe('Until the first part of the answer.'),
  idle: positiveDuration.default(60_000).describe('Between two parts of it.'),
})

const json = z.custom<Json>((value) => value !== undefined).meta({ title: 'any JSON' })
const jsonObject = z.custom<JsonObject>(isObject, { error: 'must be a map' }).meta({ title: 'object' })

const defaults = z.strictObject({
  temperature: z.number().min(0).max(2).optional().describe('How much is left to chance.'),
  topP: z.number().gt(0).max(1).optional().describe('Only the likeliest tokens of this share.'),
  maxTokens: z.int().min(1).max(10_000_000).optional().describe('Largest answer, in tokens.'),
  seed: z.int().min(0).max(2_147_483_647).optional().describe('The same dice each time, where the provider has it.'),
  stop: z.array(z.string().min(1).max(256)).min(1).max(4).optional().describe('Texts that end the answer.'),
})

/** What the scripted provider can be told to fail with. */
export const MOCK_ERRORS = ['auth_failed', 'not_found', 'rate_limited', 'unavailable', 'context_exceeded'] as const

const mockReply = z.strictObject({
  when: z
    .string()
    .min(1)
    .optional()
    .describe('Answers a message that has this text in it, before those that answer by turn.'),
  text: z.string().optional().describe('The answer.'),
  json: json.optional().describe('The answer as a value, instead of text.'),
  toolCalls: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(128).describe('Name of the tool.'),
        input: jsonObject.default({}).describe('What it is called with.'),
      }),
    )
    .min(1)
    .max(64)
    .optional()
    .describe('Tools that the model asks for.'),
  delay: duration.default(0).describe('Wait before the answer.'),
  errors: z
    .array(
      z.strictObject({
        code: z.enum(MOCK_ERRORS).describe('Of the failure `model.CODE`.'),
        retryAfter: duration.optional().describe('When the model wants to be asked again.'),
      }),
    )
    .min(1)
    .max(100)
    .optional()
    .describe('One for each try, before the answer; the last one stays when there is no answer.'),
  usage: z
    .strictObject({
      inputTokens: z.int().min(0).describe('Tokens of the request.'),
      outputTokens: z.int().min(0).describe('Tokens of the answer.'),
      cachedInputTokens: z.int().min(0).default(0).describe('Tokens of the request that came from a cache.'),
    })
    .optional()
    .describe('What the answer took; estimated when left out.'),
})
export type MockReply = z.infer<typeof mockReply>

export const modelEndpointSpecSchema = z.strictObject({
  provider: z.enum(PROVIDERS).describe('Whose language the endpoint speaks.'),
  model: z.string().min(1).max(256).describe('As the provider calls it.'),
  baseUrl: addressOfHttp.optional().describe("Instead of the provider's own address."),
  credentials: secretRef.optional().describe('The key of the API; for `bedrock` a bearer token.'),
  azure: z
    .strictObject({
      resource: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9-]{0,62}$/, { error: 'must be letters, digits and hyphens' })
        .optional()
        .describe('Of `https://RESOURCE.openai.azure.com`; or name a `baseUrl`.'),
      deployment: z.string().min(1).max(128).describe('Name of the deployment of the model.'),
      apiVersion: z.string().min(1).max(64).default('2024-10-21').describe('Version of the API.'),
    })
    .optional()
    .describe('For `azure-openai`: where the model is deployed.'),
  bedrock: z
    .strictObject({
      region: z
        .string()
        .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, { error: 'must be a region such as eu-west-1' })
        .describe('Of the model and of the signature.'),
      accessKeyId: secretRef.optional().describe('Key that signs, when there is no bearer token.'),
      secretAccessKey: secretRef.optional().describe('Its secret part.'),
      sessionToken: secretRef.optional().describe('Of a key that is borrowed.'),
    })
    .optional()
    .describe('For `bedrock`: region and keys.'),
  timeouts: timeouts.default(timeouts.parse({})).describe('How long an answer may take.'),
  retry: z
    .preprocess((value) => (typeof value === 'number' ? { max: value } : value), retryObject)
    .default(retryObject.parse({}))
    .describe('Tries after the first one; a number is `max`.'),
  maxConcurrent: z.int().min(1).max(10_000).optional().describe('Calls at once, of each process that asks.'),
  requestsPerMinute: perMinute.optional().describe('Requests of each process that asks.'),
  tokensPerMinute: perMinute.optional().describe('Tokens of each process that asks, of requests and answers together.'),
  fallbacks: z
    .array(dnsName)
    .min(1)
    .max(LIMITS.fallbacksMax)
    .optional()
    .describe('Endpoints of the same namespace, in their order, for when this one does not answer.'),
  local: z
    .boolean()
    .default(false)
    .describe('No prompt leaves: only private addresses are called, and only fallbacks that are local too.'),
  allowPrivateAddresses: z
    .boolean()
    .optional()
    .describe('Loopback and private networks may be called; true for `ollama` and for what is local.'),
  promptCaching: z
    .boolean()
    .default(true)
    .describe('Mark what the provider may keep, for `anthropic` and `bedrock`; others do it by themselves.'),
  prices: dnsName.optional().describe('Name of a PriceTable of the same namespace.'),
  defaults: defaults.default({}).describe('For requests that do not say otherwise.'),
  mock: z
    .strictObject({ replies: z.array(mockReply).min(1).max(1_000).describe('What it says.') })
    .optional()
    .describe('For `mock`: the script.'),
})

/** A spec as calls use it: defaults filled in, durations in milliseconds. */
export type ModelEndpointSpec = z.infer<typeof modelEndpointSpecSchema>

/** Of a spec that was checked when it was stored. Throws when a later build no longer takes it. */
export const readModelEndpoint = (spec: JsonObject): ModelEndpointSpec => modelEndpointSpecSchema.parse(spec)

/** Secrets that calls of the endpoint need, by what they are for. */
export function secretsOfEndpoint(spec: Pick<ModelEndpointSpec, 'credentials' | 'bedrock'>) {
  const { credentials, bedrock } = spec
  const { accessKeyId, secretAccessKey, sessionToken } = bedrock ?? {}
  const all = { credentials, accessKeyId, secretAccessKey, sessionToken }
  return Object.entries(all).flatMap(([use, ref]) => (ref ? [{ use: use as keyof typeof all, ref }] : []))
}

/** Whether prompts stay on this machine and its private networks. */
export const isLocalEndpoint = (spec: Pick<ModelEndpointSpec, 'local' | 'provider'>): boolean =>
  spec.local || spec.provider === 'mock'

/** Whether loopback and private networks may be called. */
export const mayCallPrivate = (spec: ModelEndpointSpec): boolean =>
  spec.allowPrivateAddresses ?? (spec.local || spec.provider === 'ollama')

/** Where an endpoint is called; null for the mock, which is called nowhere. */
export function addressOf(spec: ModelEndpointSpec): string | null {
  const { provider, baseUrl, azure, bedrock } = spec
  if (provider === 'mock') return null
  if (baseUrl !== undefined) return baseUrl.replace(/\/+$/, '')
  if (provider === 'azure-openai') return `https://${azure?.resource ?? ''}.openai.azure.com/openai`
  if (provider === 'bedrock') {
    const region = bedrock?.region ?? ''
    return `https://bedrock-runtime.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
  }
  return PROVIDER_ADDRESSES[provider] ?? null
}

const problem = (message: string, ...path: string[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject, name: string | null): Placed[] {
  const found: Placed[] = []
  const provider = spec['provider']
  const has = (key: string): boolean => spec[key] !== undefined
  const only = (key: string, owner: Provider): void => {
    if (has(key) && provider !== owner && typeof provider === 'string')
      found.push({ ...problem(`is for the provider ${owner}; this one is ${provider}`, key), at: 'key' })
  }
  only('azure', 'azure-openai')
  only('bedrock', 'bedrock')
  only('mock', 'mock')
  if (provider === 'openai' || provider === 'anthropic' || provider === 'google' || provider === 'azure-openai')
    if (!has('credentials'))
      found.push(problem(`is required for ${provider}: { secret: NAME, key: KEY }`, 'credentials'))
  if (provider === 'openai-compatible' && !has('baseUrl'))
    found.push(problem('is required for openai-compatible, such as http://127.0.0.1:8000/v1', 'baseUrl'))
  if (provider === 'azure-openai') {
    if (!has('azure'))
      found.push(problem('is required for azure-openai: { resource: NAME, deployment: NAME }', 'azure'))
    const azure = isObject(spec['azure']) ? spec['azure'] : null
    if (azure && azure['resource'] === undefined && !has('baseUrl'))
      found.push(problem('is required unless spec.baseUrl names the address', 'azure', 'resource'))
    if (azure && azure['resource'] !== undefined && has('baseUrl'))
      found.push(problem('says where the endpoint is, and so does azure.resource: leave one out', 'baseUrl'))
  }
  if (provider === 'bedrock') found.push(...bedrockProblems(spec))
  if (provider === 'mock') {
    if (!has('mock')) found.push(problem('is required for mock: { replies: [{ text: hello }] }', 'mock'))
    for (const key of ['baseUrl', 'credentials', 'allowPrivateAddresses', 'promptCaching'])
      if (has(key)) found.push({ ...problem('has no meaning for mock, which calls nobody', key), at: 'key' })
  }
  found.push(...mockProblems(spec), ...fallbackProblems(spec, name))
  if (spec['local'] === true && spec['allowPrivateAddresses'] === false)
    found.push(problem('must be true or left out: a local endpoint is at a private address', 'allowPrivateAddresses'))
  return found
}

function bedrockProblems(spec: JsonObject): Placed[] {
  const { bedrock, credentials } = spec
  if (!isObject(bedrock))
    return bedrock === undefined ? [problem('is required for bedrock: { region: eu-west-1 }', 'bedrock')] : []
  const pair = ['accessKeyId', 'secretAccessKey'].filter((key) => bedrock[key] !== undefined)
  if (credentials !== undefined)
    return pair.length > 0
      ? [problem('is a bearer token, and bedrock names an access key: leave one out', 'credentials')]
      : []
  if (pair.length === 2) return []
  if (pair.length === 0)
    return [problem('is required for bedrock, or bedrock.accessKeyId and bedrock.secretAccessKey', 'credentials')]
  const missing = pair[0] === 'accessKeyId' ? 'secretAccessKey' : 'accessKeyId'
  return [problem(`is required beside ${pair[0]}`, 'bedrock', missing)]
}

function mockProblems({ mock }: JsonObject): Placed[] {
  if (!isObject(mock) || !Array.isArray(mock['replies'])) return []
  return mock['replies'].flatMap((reply, i) => {
    if (!isObject(reply)) return []
    const at = (message: string, key?: string): Placed =>
      placedProblem('manifest.invalid', message, ['spec', 'mock', 'replies', i, ...(key === undefined ? [] : [key])])
    if (reply['text'] !== undefined && reply['json'] !== undefined) return [at('cannot stand beside text', 'json')]
    const says = ['text', 'json', 'toolCalls', 'errors'].some((key) => reply[key] !== undefined)
    return says ? [] : [at('says nothing: give it text, json, toolCalls or errors')]
  })
}

function fallbackProblems({ fallbacks }: JsonObject, name: string | null): Placed[] {
  if (!Array.isArray(fallbacks)) return []
  return fallbacks.flatMap((fallback, i) => {
    const at = (message: string): Placed => placedProblem('manifest.invalid', message, ['spec', 'fallbacks', i])
    if (fallback === name && name !== null) return [at('is this endpoint itself')]
    return fallbacks.indexOf(fallback) < i ? [at('is there twice')] : []
  })
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

export const modelEndpointKind = defineKind({
  kind: 'ModelEndpoint',
  plural: 'modelendpoints',
  shortNames: ['models', 'model'],
  summary: 'A model at a provider: where it is, which secret opens it, what it may cost in time and calls.',
  spec: modelEndpointSpecSchema,
  crossCheck,
  columns: [
    { title: 'PROVIDER', text: ({ spec }) => textOf(spec['provider']) },
    { title: 'MODEL', text: ({ spec }) => textOf(spec['model']) },
    { title: 'LOCAL', text: ({ spec }) => (spec['local'] === true || spec['provider'] === 'mock' ? 'yes' : '') },
    {
      title: 'FALLBACKS',
      wide: true,
      text: ({ spec }) => (Array.isArray(spec['fallbacks']) ? spec['fallbacks'].map(textOf).join(',') : ''),
    },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
