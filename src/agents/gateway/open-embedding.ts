import type { EmbeddingModelV4 } from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import { Failure } from '../../domain/failure.ts'
import { addressOf, type ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { mockEmbedding } from './mock-embedding.ts'
import type { EndpointSecrets } from './providers.ts'

/** The model of embeddings of an endpoint; nothing is ever taken from the environment. `model.request_rejected`: the provider has none. */
export async function openEmbedding(
  spec: ModelEndpointSpec,
  on: { secrets: EndpointSecrets; fetch: typeof globalThis.fetch; clock: Clock; tries: number; endpoint: string },
): Promise<EmbeddingModelV4> {
  const { provider, model } = spec
  const { secrets, fetch } = on
  const baseURL = addressOf(spec) ?? ''
  const apiKey = secrets.credentials ?? ''
  switch (provider) {
    case 'openai':
      return (await import('@ai-sdk/openai')).createOpenAI({ baseURL, apiKey, fetch }).embeddingModel(model)
    case 'google':
      return (await import('@ai-sdk/google')).createGoogle({ baseURL, apiKey, fetch }).embeddingModel(model)
    case 'azure-openai': {
      const { deployment = model, apiVersion = '' } = spec.azure ?? {}
      const { createAzure } = await import('@ai-sdk/azure')
      const azure = createAzure({ baseURL, apiKey, fetch, apiVersion, useDeploymentBasedUrls: true })
      return azure.embeddingModel(deployment)
    }
    case 'bedrock': {
      const { accessKeyId = '', secretAccessKey = '', sessionToken = '' } = secrets
      const { createAmazonBedrock } = await import('@ai-sdk/amazon-bedrock')
      return createAmazonBedrock({
        region: spec.bedrock?.region ?? '',
        baseURL,
        fetch,
        // A blank token is none, and keeps the package from looking for one.
        apiKey: apiKey === '' ? ' ' : apiKey,
        accessKeyId,
        secretAccessKey,
        ...(sessionToken === '' ? {} : { sessionToken }),
      }).embeddingModel(model)
    }
    case 'ollama':
    case 'openai-compatible': {
      const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible')
      return createOpenAICompatible({
        name: 'compatible',
        baseURL: provider === 'ollama' ? `${baseURL}/v1` : baseURL,
        ...(apiKey === '' ? {} : { apiKey }),
        fetch,
      }).embeddingModel(model)
    }
    case 'mock':
      return mockEmbedding(spec, on)
    case 'anthropic':
      throw new Failure('model.request_rejected', `asking endpoint ${on.endpoint} for vectors`, {
        evidence: { endpoint: on.endpoint, provider },
        remediation: `The provider ${provider} has no embeddings: name an endpoint of another one.`,
      })
  }
}
