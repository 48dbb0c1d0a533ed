import { Secret } from '../base/secret.ts'
import type { Client } from './client.ts'
import { createClient } from './create-client.ts'
import { transportTo } from './failover-transport.ts'

export interface OpenClientOptions {
  /** `http://host:port` or `https://…`, a path prefix allowed; several servers of one installation with commas between them. */
  server: string
  /** Of `orrery token create`; absent: none is sent. */
  token?: string
  /** PEM of an authority to trust beside the system's. */
  ca?: string
  /** The span that all requests are a part of, as W3C Trace Context has it. */
  traceparent?: string
}

/** A client of a server. Nothing is sent yet; throws `config.value_unsupported` when `server` is no address. */
export function openClient({ server, token, ca, traceparent }: OpenClientOptions): Client {
  return createClient({
    transport: transportTo({ address: server, ...(ca === undefined ? {} : { ca }) }),
    token: token === undefined ? null : new Secret(token),
    ...(traceparent === undefined ? {} : { traceparent }),
  })
}
