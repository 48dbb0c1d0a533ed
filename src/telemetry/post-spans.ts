import http from 'node:http'
import https from 'node:https'
import { connect } from 'node:tls'
import { Failure } from '../domain/failure.ts'
import { shown } from './otel-settings.ts'

export interface Collector {
  endpoint: string
  headers: Record<string, string>
  timeoutMs: number
  /** PEM of an authority to trust beside the system's. */
  ca: string | null
}

export type PostOutcome =
  | { kind: 'taken' }
  /** It may take them later. */
  | { kind: 'later'; failure: Failure }
  /** It will never take them as they are. */
  | { kind: 'refused'; failure: Failure }

/** Errors of a client that speaks TLS to what does not, or does not trust what it hears. */
const TLS_CODES =
  /^(EPROTO|ERR_SSL_|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED|UNABLE_TO_|HPE_|HOSTNAME_MISMATCH|ERR_HTTP2)/

/** Sends one batch, as OTLP over HTTP with JSON. Never throws. */
export function postSpans(collector: Collector, body: string, agent?: http.Agent): Promise<PostOutcome> {
  const url = new URL(collector.endpoint)
  const isTls = url.protocol === 'https:'
  return new Promise((resolve) => {
    const fail = (error: NodeJS.ErrnoException) => resolve(laterFor(error, url, collector))
    let request: http.ClientRequest
    try {
      request = (isTls ? https : http).request(url, {
        method: 'POST',
        headers: {
          ...collector.headers,
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
        },
        timeout: collector.timeoutMs,
        ...(agent ? { agent } : {}),
        ...(isTls && collector.ca !== null ? { ca: collector.ca } : {}),
      })
    } catch (error) {
      fail(error as NodeJS.ErrnoException) // a header that HTTP does not allow
      return
    }
    request.on('timeout', () => request.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })))
    request.on('error', fail)
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        if (text.length < 2048) text += chunk
      })
      response.on('error', fail)
      response.on('end', () => resolve(outcomeOf(response.statusCode ?? 0, text, collector)))
    })
    request.end(body)
  })
}

async function laterFor(error: NodeJS.ErrnoException, url: URL, collector: Collector): Promise<PostOutcome> {
  const hasTls = await speaksTlsInstead(error, url, collector)
  return { kind: 'later', failure: failureOf(error, collector, hasTls) }
}

function outcomeOf(status: number, text: string, { endpoint }: Collector): PostOutcome {
  if (status >= 200 && status < 300) return { kind: 'taken' }
  const evidence = { endpoint: shown(endpoint), status, answer: text.slice(0, 200) }
  const what = `sending traces to ${shown(endpoint)}`
  // What servers say to a request that should have been TLS.
  if (status === 400 && /https/i.test(text))
    return { kind: 'later', failure: new Failure('telemetry.exporter_tls_mismatch', what, { evidence }) }
  const failure = new Failure('telemetry.exporter_unreachable', what, {
    evidence,
    remediation: `The address answers with status ${status}: it must be an OTLP receiver over HTTP, usually http://host:4318, and the headers in OTEL_EXPORTER_OTLP_HEADERS must be those that it asks for.`,
  })
  return status === 429 || status >= 502 ? { kind: 'later', failure } : { kind: 'refused', failure }
}

/** A port that only hangs up on plain HTTP may be one that waits for TLS: a handshake tells. */
function speaksTlsInstead(error: NodeJS.ErrnoException, url: URL, { timeoutMs }: Collector): Promise<boolean> {
  if (url.protocol === 'https:' || error.code !== 'ECONNRESET') return Promise.resolve(false)
  return new Promise((resolve) => {
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    // What is behind it is not trusted with anything: only whether it greets is looked at.
    const socket = connect({ host, port: Number(url.port || 80), rejectUnauthorized: false, timeout: timeoutMs })
    const end = (isTls: boolean) => {
      socket.destroy()
      resolve(isTls)
    }
    socket.on('secureConnect', () => end(true))
    socket.on('timeout', () => end(false))
    socket.on('error', () => end(false))
  })
}

function failureOf(error: NodeJS.ErrnoException, { endpoint }: Collector, hasTls: boolean): Failure {
  const code = error.code ?? ''
  const isTls = endpoint.startsWith('https:')
  // A TLS or HTTP/2 port answers plain HTTP with bytes that are no HTTP, or hangs up.
  const isMismatch = hasTls || TLS_CODES.test(code)
  return new Failure(
    isMismatch ? 'telemetry.exporter_tls_mismatch' : 'telemetry.exporter_unreachable',
    `sending traces to ${shown(endpoint)}`,
    {
      cause: error,
      evidence: { endpoint: shown(endpoint), error: code || error.message, tls: isTls },
      ...(isMismatch ? { remediation: mismatchRemedy(code, isTls) } : {}),
    },
  )
}

function mismatchRemedy(code: string, isTls: boolean): string {
  if (/CERT|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|HOSTNAME/.test(code))
    return 'The certificate of the collector is not trusted: name the authority with OTEL_EXPORTER_OTLP_CERTIFICATE, or use the name that the certificate is for.'
  return isTls
    ? 'The collector does not speak TLS at this port: write http:// in OTEL_EXPORTER_OTLP_ENDPOINT, or give its TLS port.'
    : 'The collector does not speak plain HTTP/1 at this port: write https:// in OTEL_EXPORTER_OTLP_ENDPOINT, or give the port of OTLP over HTTP (4318, not 4317).'
}

/** Asks a collector whether it takes spans, by sending none. Null when it does; for checks of an installation. */
export async function checkExporter(collector: Collector | null): Promise<Failure | null> {
  if (collector === null)
    return new Failure('telemetry.exporter_unset', 'looking for a collector of traces', {
      evidence: { variable: 'OTEL_EXPORTER_OTLP_ENDPOINT' },
    })
  const outcome = await postSpans(collector, '{"resourceSpans":[]}')
  return outcome.kind === 'taken' ? null : outcome.failure
}
