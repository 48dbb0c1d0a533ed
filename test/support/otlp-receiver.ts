// A collector of traces: takes OTLP over HTTP with JSON and keeps the spans.
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface ReceivedSpan {
  traceId: string
  spanId: string
  parentSpanId: string | null
  name: string
  kind: number
  service: string
  attributes: Record<string, unknown>
  failed: boolean
  durationMs: number
}

export interface OtlpReceiver {
  endpoint: string
  spans: ReceivedSpan[]
  headers: Record<string, string | string[] | undefined>[]
  /** Stops listening; what is sent meanwhile meets a closed port. */
  stop(): Promise<void>
}

interface OtlpAttribute {
  key: string
  value: { stringValue?: string; intValue?: string; doubleValue?: number; boolValue?: boolean }
}

interface OtlpBody {
  resourceSpans: {
    resource: { attributes: OtlpAttribute[] }
    scopeSpans: {
      spans: {
        traceId: string
        spanId: string
        parentSpanId?: string
        name: string
        kind: number
        startTimeUnixNano: string
        endTimeUnixNano: string
        attributes: OtlpAttribute[]
        status?: { code?: number }
      }[]
    }[]
  }[]
}

const valuesOf = (attributes: readonly OtlpAttribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))

/** Listens on a free port, or on the one given; `tls` with a certificate, `status` other than 200 refuses all. */
export async function startReceiver(
  options: { port?: number; tls?: { key: string; cert: string }; status?: number } = {},
): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const headers: OtlpReceiver['headers'] = []
  const take: Parameters<typeof createServer>[1] = (request, response) => {
    let text = ''
    request.setEncoding('utf8')
    request.on('data', (chunk: string) => (text += chunk))
    request.on('end', () => {
      headers.push(request.headers)
      const status = request.url === '/v1/traces' ? (options.status ?? 200) : 404
      if (status === 200) spans.push(...spansIn(JSON.parse(text) as OtlpBody)) // what the product sends
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}')
    })
  }
  const server = options.tls ? createTlsServer(options.tls, take) : createServer(take)
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo // it listens on a port
  const stop = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  onTestFinished(stop)
  return { endpoint: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`, spans, headers, stop }
}

function spansIn(body: OtlpBody): ReceivedSpan[] {
  return body.resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = String(valuesOf(resource.attributes)['service.name'])
    return scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId ?? null,
        name: span.name,
        kind: span.kind,
        service,
        attributes: valuesOf(span.attributes),
        failed: span.status?.code === 2,
        durationMs: Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6,
      })),
    )
  })
}
