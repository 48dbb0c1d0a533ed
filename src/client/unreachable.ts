import type { JsonObject } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'

/** Which part of the way to the server failed. */
export type Layer = 'name' | 'tcp' | 'tls' | 'proxy' | 'http' | 'not-orrery'

export interface Target {
  address: string
  /** Which flag, variable or file gave the address; null when nobody said. */
  addressFrom: string | null
}

const REMEDIES: Record<Layer, string> = {
  name: 'The host name is not known here: correct the address given by --server or ORRERY_SERVER, or mend name resolution.',
  tcp: 'Nothing answers at this host and port: start the server with orrery up, correct --server or ORRERY_SERVER, or open the firewall.',
  tls: 'The TLS connection failed: use the right scheme (http or https), and trust the authority that signed the certificate of the server.',
  proxy:
    'A proxy or load balancer answers in place of the server: start the server behind it, or mend the way from the proxy to it.',
  http: 'The connection was made and then failed: look at the log of the server and at the proxies in between.',
  'not-orrery':
    'Something else answers at this address: correct the host, port or path given by --server or ORRERY_SERVER.',
}

/** Remedies of TLS errors that say more than that TLS failed. */
const TLS_REMEDIES: [codes: RegExp, remedy: string][] = [
  [
    /^(?:EPROTO|ERR_SSL_WRONG_VERSION_NUMBER|ERR_SSL_PACKET_LENGTH_TOO_LONG)$/,
    'The server speaks plain HTTP at this port: write the address with http://, or put TLS in front of the server.',
  ],
  [/^HTTP_TO_TLS$/, 'The server speaks TLS at this port: write the address with https://.'],
  [
    /SELF_SIGNED|UNABLE_TO_|DEPTH_ZERO|INVALID_CA|CERT_UNTRUSTED/,
    'The authority that signed the certificate is not trusted here: give its PEM file with NODE_EXTRA_CA_CERTS, or use a certificate of a known authority.',
  ],
  [
    /ALTNAME|HOSTNAME_MISMATCH/,
    'The certificate is for another name: use the name that it was made for in --server or ORRERY_SERVER.',
  ],
  [/EXPIRED|NOT_YET_VALID/, 'The certificate is not valid at this time: renew it, or set the clock of this host.'],
]

const remedyOf = (layer: Layer, details: JsonObject): string => {
  const error = String(details['error'] ?? '')
  return (layer === 'tls' ? TLS_REMEDIES.find(([codes]) => codes.test(error))?.[1] : undefined) ?? REMEDIES[layer]
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
      remediation: remedyOf(layer, details),
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
