import type { LanguageModelV4 } from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import { once } from '../../base/once.ts'
import { addressOf, type ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { mockModel } from './mock-model.ts'

const openai = once(() => import('@ai-sdk/openai'))
const anthropic = once(() => import('@ai-sdk/anthropic'))
const google = once(() => import('@ai-sdk/google'))
const azure = once(() => import('@ai-sdk/azure'))
const bedrock = once(() => import('@ai-sdk/amazon-bedrock'))
const compatible = once(() => import('@ai-sdk/openai-compatible'))

/** Values by what they are for, as `secretsOfEndpoint` names it. */
export type EndpointSecrets = Partial<
  Record<'credentials' | 'accessKeyId' | 'secretAccessKey' | 'sessionToken', string>
>

/**
 * The model of an endpoint. Each provider's package is loaded when one of its endpoints is first called. Whatever a package would look for in
 * the environment is given to it, so that nothing is ever taken from there.
 */
export async function openModel(
  spec: ModelEndpointSpec,
  {
    secrets,
    fetch,
    clock,
    tries,
  }: { secrets: EndpointSecrets; fetch: typeof globalThis.fetch; clock: Clock; tries: number },
): Promise<LanguageModelV4> {
  const { provider, model } = spec
  const baseURL = addressOf(spec) ?? ''
  const apiKey = secrets.credentials ?? ''
  switch (provider) {
    case 'openai':
      return (await openai()).createOpenAI({ baseURL, apiKey, fetch }).chat(model)
    case 'anthropic':
      return (await anthropic()).createAnthropic({ baseURL, apiKey, fetch })(model)
    case 'google':
      return (await google()).createGoogle({ baseURL, apiKey, fetch })(model)
    case 'azure-openai': {
      const { deployment = model, apiVersion = '' } = spec.azure ?? {}
      const { createAzure } = await azure()
      return createAzure({ baseURL, apiKey, fetch, apiVersion, useDeploymentBasedUrls: true }).chat(deployment)
    }
    case 'bedrock': {
      const { accessKeyId = '', secretAccessKey = '', sessionToken = '' } = secrets
      const { createAmazonBedrock } = await bedrock()
      return createAmazonBedrock({
        region: spec.bedrock?.region ?? '',
        baseURL,
        fetch,
        // A blank token is none, and keeps the package from looking for one.
        apiKey: apiKey === '' ? ' ' : apiKey,
        accessKeyId,
        secretAccessKey,
        ...(sessionToken === '' ? {} : { sessionToken }),
      })(model)
    }
    case 'ollama':
    case 'openai-compatible': {
      const { createOpenAICompatible } = await compatible()
      return createOpenAICompatible({
        name: 'compatible',
        baseURL: provider === 'ollama' ? `${baseURL}/v1` : baseURL,
        ...(apiKey === '' ? {} : { apiKey }),
        fetch,
        includeUsage: true,
        supportsStructuredOutputs: true,
      })(model)
    }
    case 'mock':
      return mockModel(spec, { clock, tries })
  }
}
