import { once } from '../../base/once.ts'
import { addressOf, type ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import type { EndpointSecrets } from './endpoint-secrets.ts'

const openai = once(() => import('@ai-sdk/openai'))
const anthropic = once(() => import('@ai-sdk/anthropic'))
const google = once(() => import('@ai-sdk/google'))
const azure = once(() => import('@ai-sdk/azure'))
const bedrock = once(() => import('@ai-sdk/amazon-bedrock'))
const compatible = once(() => import('@ai-sdk/openai-compatible'))

/** An endpoint with what opens it, and the way out. */
export interface OpenEndpoint {
  spec: ModelEndpointSpec
  secrets: EndpointSecrets
  fetch: typeof globalThis.fetch
}

const settingsOf = ({ spec, secrets, fetch }: OpenEndpoint) => {
  return { baseURL: addressOf(spec) ?? '', apiKey: secrets.credentials ?? '', fetch }
}

/**
 * The provider behind an endpoint, of which its models of language and of embeddings are had alike. Each package is loaded when one of its endpoints is
 * first called. Whatever a package would look for in the environment is given to it, so that nothing is ever taken from there.
 */
export const PROVIDER = {
  openai: async (on: OpenEndpoint) => (await openai()).createOpenAI(settingsOf(on)),
  anthropic: async (on: OpenEndpoint) => (await anthropic()).createAnthropic(settingsOf(on)),
  google: async (on: OpenEndpoint) => (await google()).createGoogle(settingsOf(on)),
  async azure(on: OpenEndpoint) {
    const { apiVersion = '' } = on.spec.azure ?? {}
    const { createAzure } = await azure()
    return createAzure({ ...settingsOf(on), apiVersion, useDeploymentBasedUrls: true })
  },
  async bedrock(on: OpenEndpoint) {
    const { accessKeyId = '', secretAccessKey = '', sessionToken = '' } = on.secrets
    const { baseURL, apiKey, fetch } = settingsOf(on)
    const { createAmazonBedrock } = await bedrock()
    return createAmazonBedrock({
      region: on.spec.bedrock?.region ?? '',
      baseURL,
      fetch,
      // A blank token is none, and keeps the package from looking for one.
      apiKey: apiKey === '' ? ' ' : apiKey,
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === '' ? {} : { sessionToken }),
    })
  },
  async compatible(on: OpenEndpoint) {
    const { baseURL, apiKey, fetch } = settingsOf(on)
    const { createOpenAICompatible } = await compatible()
    return createOpenAICompatible({
      name: 'compatible',
      baseURL: on.spec.provider === 'ollama' ? `${baseURL}/v1` : baseURL,
      ...(apiKey === '' ? {} : { apiKey }),
      fetch,
      includeUsage: true,
      supportsStructuredOutputs: true,
    })
  },
}
