import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import type { PriceTable } from '../../domain/kinds/price-table.ts'
import type { Egress } from '../egress.ts'
import type { KnownModel } from './judge-error.ts'

/** Where the gateway finds what manifests name. Everything is asked anew for each call: what was changed holds from the next one on. */
export interface ModelSource {
  /** Null: there is no such endpoint. */
  findEndpoint(namespace: string, name: string): Promise<ModelEndpointSpec | null>
  findPrices(namespace: string, name: string): Promise<PriceTable | null>
  /** All endpoints of a namespace, for telling what was probably meant. */
  listModels(namespace: string): Promise<KnownModel[]>
  /** Values in the order of what is wanted. Throws `secret.not_found` and the like for the first that is nowhere. */
  resolveSecrets(
    wanted: readonly { namespace: string; endpoint: string; secret: string; key: string }[],
  ): Promise<string[]>
}

export interface GatewayDeps {
  clock: Clock
  random: Random
  egress: Egress
  source: ModelSource
}

export interface CallContext {
  namespace: string
  /** The endpoint to ask. */
  endpoint: string
  /** False: only this one, whatever happens. */
  useFallbacks?: boolean
  /** Sent to providers that know such keys: the same call made again is answered as it was. */
  idempotencyKey?: string
  /** Where this call finds what manifests name, instead of where all do. */
  source?: ModelSource
  /**
   * The request is made ready at once, and sent when this resolves to true. False: it is not to be sent, and the call ends without an event. Never
   * rejects. Absent: it is sent at once.
   */
  goAhead?: Promise<boolean>
  /** Ends the call; its reason is what is thrown then. */
  signal: AbortSignal
}
