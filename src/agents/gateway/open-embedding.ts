import type { EmbeddingModelV4 } from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import { Failure } from '../../domain/failure.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { mockEmbedding } from './mock-embedding.ts'
import { type OpenEndpoint, PROVIDER } from './provider-packages.ts'

/** The model of embeddings of an endpoint; nothing is ever taken from the environment. `model.request_rejected`: the provider has none. */
export async function openEmbedding(
  spec: ModelEndpointSpec,
  on: Omit<OpenEndpoint, 'spec'> & { clock: Clock; tries: number; endpoint: string },
): Promise<EmbeddingModelV4> {
  const { provider, model } = spec
  const open = { spec, ...on }
  switch (provider) {
    case 'openai':
      return (await PROVIDER.openai(open)).embeddingModel(model)
    case 'google':
      return (await PROVIDER.google(open)).embeddingModel(model)
    case 'azure-openai':
      return (await PROVIDER.azure(open)).embeddingModel(spec.azure?.deployment ?? model)
    case 'bedrock':
      return (await PROVIDER.bedrock(open)).embeddingModel(model)
    case 'ollama':
    case 'openai-compatible':
      return (await PROVIDER.compatible(open)).embeddingModel(model)
    case 'mock':
      return mockEmbedding(spec, on)
    case 'anthropic':
      throw new Failure('model.request_rejected', `asking endpoint ${on.endpoint} for vectors`, {
        evidence: { endpoint: on.endpoint, provider },
        remediation: `The provider ${provider} has no embeddings: name an endpoint of another one.`,
      })
  }
}
