import type { JsonObject } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'

/** Which part of the way to the server failed. */
export type Layer = 'name' | 'tcp' | 'tls' | 'http' | 'not-orrery'

export interface Target {
  address: string
  /** Which flag, variable or file gave the address; null when nobody said. */
  addressFrom: string | null
}

const REMEDIES: Record<Layer, string> = {
  name: 'The host name is not known here: correct the address given by --server or ORRERY_SERVER, or mend name resolution.',
  tcp: 'Nothing answers at this host and port: start the server with orrery up, correct --server or ORRERY_SERVER, or open the firewall.',
  tls: 'The TLS connection failed: use the right scheme (http or https), and trust the authority that signed the certificate of the server.',
  http: 'The connection was made and then failed: look at the log of the server and at the proxies in between.',
  'not-orrery':
    'Something else answers at this address: correct the host, port or path given by --server or ORRERY_SERVER.',
}

export function unreachable(layer: Layer, target: Target, what: string, details: JsonObject, cause?: unknown): Failure {
  return new Failure(
    layer === 'tls' ? 'client.tls_failed' : 'client.server_unreachable',
    `${what} at ${target.address}`,
    {
      ...(cause === undefined ? {} : { cause }),
      evidence: {
        layer,
        address: target.address,
        ...(target.addressFrom === null ? {} : { addressFrom: target.addressFrom }),
        ...details,
      },
      remediation: REMEDIES[layer],
    },
  )
}

/** The failure for an error of node's sockets. `connected`: the connection had been made. */
export function unreachableBy(
  error: NodeJS.ErrnoException,
  target: Target,
  what: string,
  { connected }: { connected: boolean },
): Failure {
  const code = error.code ?? ''
  return unreachable(layerOf(code, connected), target, what, { error: code === '' ? error.message : code }, error)
}

const NAME_CODES = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'EAI_NONAME'])
const TLS_CODE = /^(?:ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|EPROTO$|INVALID_CA)/

function layerOf(code: string, connected: boolean): Layer {
  if (NAME_CODES.has(code)) return 'name'
  if (TLS_CODE.test(code)) return 'tls'
  if (code.startsWith('HPE_')) return 'not-orrery'
  return connected ? 'http' : 'tcp'
}
