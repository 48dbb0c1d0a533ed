import { LLMock } from '@copilotkit/aimock'
import { onTestFinished } from 'vitest'
import { type Clock, systemClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { seededRandom } from '../../base/random.ts'
import { Failure } from '../../domain/failure.ts'
import { readResources } from '../../domain/kinds/documents.ts'
import { readModelEndpoint } from '../../domain/kinds/model-endpoint.ts'
import { readPriceTable } from '../../domain/kinds/price-table.ts'
import { createEgress, type Egress } from '../egress.ts'
import { createModelGateway } from '../gateway/create-gateway.ts'
import type { ModelSource } from '../gateway/model-source.ts'
import type { ModelEvent, ModelRequest } from '../../domain/model-call.ts'
import { resultOf } from '../gateway/result-of.ts'

/** Specs by name, checked as they are when they are applied. */
export interface World {
  endpoints: Record<string, JsonObject>
  prices?: Record<string, JsonObject>
  /** By `secret/key`. */
  secrets?: Record<string, string>
}

const checked = (kind: string, name: string, spec: JsonObject): JsonObject => {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  const { documents, problems } = readResources([{ text, file: name }], null)
  const [document] = documents
  if (!document) throw new Error(JSON.stringify(problems))
  return document.spec
}

function sourceOf(world: World): ModelSource {
  return {
    findEndpoint: (_, name) => {
      const spec = world.endpoints[name]
      return Promise.resolve(spec ? readModelEndpoint(checked('ModelEndpoint', name, spec)) : null)
    },
    findPrices: (_, name) => {
      const spec = world.prices?.[name]
      return Promise.resolve(spec ? readPriceTable(checked('PriceTable', name, spec)) : null)
    },
    listModels: () =>
      Promise.resolve(
        Object.entries(world.endpoints).map(([endpoint, spec]) => {
          const { provider, model } = readModelEndpoint(spec)
          return { endpoint, provider, model }
        }),
      ),
    resolveSecrets: (wanted) =>
      Promise.resolve(
        wanted.map(({ secret, key }) => {
          const value = world.secrets?.[`${secret}/${key}`]
          if (value === undefined) throw new Failure('secret.not_found', `looking for secret ${secret}`)
          return value
        }),
      ),
  }
}

export const say = (text: string): ModelRequest => ({ messages: [{ role: 'user', text }] })

/** A gateway over a world that the test may change while it runs. */
export function gatewayOf(world: World, clock: Clock = systemClock) {
  const real = createEgress()
  onTestFinished(() => real.close())
  /** What was sent, with its headers. */
  const sent: { url: string; headers: Headers; body: string }[] = []
  const egress: Egress = {
    ...real,
    fetch: (policy) => (input, init) => {
      const url = input instanceof Request ? input.url : String(input)
      sent.push({ url, headers: new Headers(init?.headers), body: typeof init?.body === 'string' ? init.body : '' })
      return real.fetch(policy)(input, init)
    },
  }
  const gateway = createModelGateway({ clock, random: seededRandom(1), egress, source: sourceOf(world) })
  const call = (
    endpoint: string,
    request: ModelRequest | string = 'hello',
    options: { useFallbacks?: boolean; goAhead?: Promise<boolean>; signal?: AbortSignal } = {},
  ): AsyncGenerator<ModelEvent, void> =>
    gateway.call(typeof request === 'string' ? say(request) : request, {
      namespace: 'default',
      endpoint,
      signal: new AbortController().signal,
      ...options,
    })
  return {
    sent,
    call,
    embed: (endpoint: string, texts: string[], model?: string, signal = new AbortController().signal) =>
      gateway.embed({ texts, model }, { namespace: 'default', endpoint, signal }),
    result: (...args: Parameters<typeof call>) => resultOf(call(...args)),
    async events(...args: Parameters<typeof call>) {
      const events: ModelEvent[] = []
      for await (const event of call(...args)) events.push(event)
      return events
    },
    async failure(...args: Parameters<typeof call>) {
      const failed: unknown = await resultOf(call(...args)).catch((error: unknown) => error)
      if (!(failed instanceof Failure)) throw new Error(`no failure: ${JSON.stringify(failed)}`, { cause: failed })
      return failed.toRecord()
    },
  }
}

/** A server that speaks as the providers do, ended with the test. */
export async function startProviders(options: ConstructorParameters<typeof LLMock>[0] = {}): Promise<LLMock> {
  const server = new LLMock({ port: 0, host: '127.0.0.1', logLevel: 'silent', ...options })
  await server.start()
  // A test may have stopped it itself.
  onTestFinished(() => server.stop().catch(() => undefined))
  return server
}
