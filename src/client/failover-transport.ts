import { assert } from '../base/assert.ts'
import { Failure } from '../domain/failure.ts'
import { httpTransport, type HttpTransportOptions } from './http-transport.ts'
import { pooledTransport } from './pooled-transport.ts'
import type { Transport, TransportRequest } from './transport.ts'

/** From here on a status says that the server, or a proxy before it, cannot serve now: RFC 9110, section 15.6. */
const SERVER_ERROR = 500

/** Parts of the way at which a request fails before anything of it was sent: see `Layer`. */
const BEFORE_SENDING = ['name', 'tcp']

/**
 * Several servers of one installation behind one transport: requests go to one of them until it cannot be reached or cannot serve, then
 * to the next, round and round. A request that found nobody to connect to is tried at the next server at once; one that may have been
 * looked at is not: its sender knows whether twice is safe, and meets the next server when it repeats it. `onMove` is told of each change.
 */
export function failoverTransport(
  transports: readonly Transport[],
  onMove: (move: { from: string; to: string }) => void,
): Transport {
  const [first] = transports
  assert(first, 'a failover needs a server')
  if (transports.length === 1) return first
  let at = 0
  const current = (): Transport => transports[at] ?? first
  const leave = (left: Transport): void => {
    // Requests that were under way together fail together: only the first of them moves on.
    if (current() !== left) return
    at = (at + 1) % transports.length
    onMove({ from: left.address, to: current().address })
  }
  const ask = async <T extends { status: number }>(
    request: TransportRequest,
    how: (transport: Transport) => Promise<T>,
  ): Promise<T> => {
    for (let tried = 1; ; tried++) {
      const asked = current()
      try {
        const answer = await how(asked)
        if (answer.status >= SERVER_ERROR) leave(asked)
        return answer
      } catch (error) {
        if (!(error instanceof Failure) || request.signal?.aborted) throw error
        leave(asked)
        const unsent = BEFORE_SENDING.includes(String(error.evidence?.['layer']))
        if (!unsent || tried >= transports.length) throw error
      }
    }
  }
  return {
    get address() {
      return current().address
    },
    addressFrom: first.addressFrom,
    get known() {
      return current().known ?? {}
    },
    send: (request) => ask(request, (transport) => transport.send(request)),
    open: (request) => ask(request, (transport) => transport.open(request)),
    close() {
      for (const transport of transports) transport.close()
    },
  }
}

/** The servers of an address: several of one installation are written with commas between them. */
export const serversIn = (address: string): string[] => {
  const servers = address.split(',').map((part) => part.trim())
  return servers.length > 1 ? servers.filter((part) => part !== '') : servers
}

/**
 * A way over HTTP to the server of an address, or to the servers in it; `asksOften` is for whoever does, and for long. Throws `config.value_unsupported` when
 * one is no address.
 */
export function transportTo(
  { asksOften = false, ...options }: HttpTransportOptions & { asksOften?: boolean },
  onMove: (move: { from: string; to: string }) => void = () => undefined,
): Transport {
  const servers = serversIn(options.address)
  const transport = asksOften ? pooledTransport : httpTransport
  const known = servers.length > 1 ? { known: { ...options.known, servers } } : {}
  return failoverTransport(
    servers.map((address) => transport({ ...options, address, ...known })),
    onMove,
  )
}
