import type { LanguageModelV4 } from '@ai-sdk/provider'
import type { Clock } from '../../base/clock.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import { mockModel } from './mock-model.ts'
import { type OpenEndpoint, PROVIDER } from './provider-packages.ts'

/** The model of an endpoint, which sends nothing before `goAhead` resolves; nothing is ever taken from the environment. */
export async function openModel(
  spec: ModelEndpointSpec,
  {
    clock,
    tries,
    goAhead,
    secrets,
    fetch,
  }: Omit<OpenEndpoint, 'spec'> & { clock: Clock; tries: number; goAhead: Promise<void> },
): Promise<LanguageModelV4> {
  const { provider, model } = spec
  const on: OpenEndpoint = {
    spec,
    secrets,
    async fetch(input, init) {
      await goAhead
      init?.signal?.throwIfAborted()
      return fetch(input, init)
    },
  }
  switch (provider) {
    case 'openai':
      return (await PROVIDER.openai(on)).chat(model)
    case 'anthropic':
      return (await PROVIDER.anthropic(on))(model)
    case 'google':
      return (await PROVIDER.google(on))(model)
    case 'azure-openai':
      return (await PROVIDER.azure(on)).chat(spec.azure?.deployment ?? model)
    case 'bedrock':
      return (await PROVIDER.bedrock(on))(model)
    case 'ollama':
    case 'openai-compatible':
      return (await PROVIDER.compatible(on))(model)
    case 'mock':
      return mockModel(spec, { clock, tries, goAhead })
  }
}
