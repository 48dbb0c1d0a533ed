import type { JsonObject } from '../base/json.ts'
import { Failure } from '../domain/failure.ts'

/** Which part of the way to the server failed. */
export type Layer = 'name' | 'tcp' | 'tls' | 'proxy' | 'http' | 'not-orrery'

export interface Target {
  address: string
  /** Which flag, variable or file gave the address; null when nobody said. */
  addressFrom: string | null
  known?: JsonObject
}

const REMEDIES: Record<Layer, string> = {
  name: 'The host name is not known here: correct the address, or mend name resolution.',
  tcp: 'Nothing answers at this host and port: start the server with orrery up, correct the address, or open the firewall.',
  tls: 'The TLS connection failed: use the right scheme (http or https), and trust the authority that signed the certificate of the server.',
  proxy:
    'A proxy or load balancer answers in place of the server: start the server behind it, or mend the way from the proxy to it.',
  http: 'The connection was made and then failed: look at the log of the server and at the proxies in between.',
  'not-orrery': 'Something else answers at this address: correct the host, port or path.',
}

/** Written down once: the help and every failure say the same. */
export const ADDRESS_ORDER =
  'The address is taken from --server, --context, ORRERY_SERVER, ORRERY_CONTEXT, the context in use, a server that orrery up started here, and else is http://127.0.0.1:7780.'
export const TOKEN_ORDER =
  'The token is taken from --token, the context named by --context, ORRERY_TOKEN, the context that gave the address, and the file of a server that orrery up started here.'

export function unreachable(layer: Layer, target: Target, what: string, details: JsonObject, cause?: unknown): Failure {
  const fault = layer === 'tls' ? tlsFaultOf(String(details['error'] ?? '')) : null
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
        ...(fault ? { reason: fault.reason } : {}),
        ...target.known,
      },
      remediation: fault?.remediation ?? `${REMEDIES[layer]} ${ADDRESS_ORDER}`,
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

interface TlsFault {
  reason:
    | 'expired'
    | 'not-yet-valid'
    | 'self-signed'
    | 'unknown-authority'
    | 'wrong-host'
    | 'not-tls'
    | 'tls-wanted'
    | 'handshake'
  remediation: string
}

const TRUST =
  'Trust the authority that signed it with --ca FILE, ORRERY_CA or NODE_EXTRA_CA_CERTS, once you know that it is the right one.'

/** What is wrong with a certificate, or with the speaking of TLS itself. */
function tlsFaultOf(code: string): TlsFault {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return { reason: 'expired', remediation: 'The certificate of the server has expired: renew it there.' }
    case 'CERT_NOT_YET_VALID':
      return {
        reason: 'not-yet-valid',
        remediation: 'The certificate of the server is not valid yet: look at the clocks of both machines.',
      }
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return { reason: 'self-signed', remediation: `The certificate of the server is signed by itself. ${TRUST}` }
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return {
        reason: 'unknown-authority',
        remediation: `The certificate of the server is signed by an authority that is not known here. ${TRUST}`,
      }
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
    case 'HOSTNAME_MISMATCH':
      return {
        reason: 'wrong-host',
        remediation: `The certificate is for another name: use a name that stands in it, or give the server one for this name. ${ADDRESS_ORDER}`,
      }
    case 'HTTP_TO_TLS':
      return {
        reason: 'tls-wanted',
        remediation: 'The server speaks TLS at this port: write the address with https://.',
      }
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
    case 'EPROTO':
      return {
        reason: 'not-tls',
        remediation: `The server speaks plain HTTP at this port: write the address with http://, put TLS in front of the server, or correct the port. ${ADDRESS_ORDER}`,
      }
    default:
      return { reason: 'handshake', remediation: `${REMEDIES.tls} ${ADDRESS_ORDER}` }
  }
}

const NAME_CODES = new Set(['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'EAI_NONAME'])
const TLS_CODE = /^(?:ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|EPROTO$|INVALID_CA)/

function layerOf(code: string, connected: boolean): Layer {
  if (NAME_CODES.has(code)) return 'name'
  if (TLS_CODE.test(code)) return 'tls'
  if (code.startsWith('HPE_')) return 'not-orrery'
  return connected ? 'http' : 'tcp'
}
