import { createServer } from 'node:http'
import { Failure } from '../domain/failure.ts'

export interface MetricsServer {
  address: string
  close(): Promise<void>
}

/** Gives metrics at `/metrics` of an address of their own. Throws `telemetry.metrics_unreachable` when it cannot listen there. */
export async function serveMetrics(
  source: { contentType: string; metrics(): Promise<string> },
  { host, port }: { host: string; port: number },
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0]
    if (path !== '/metrics' || request.method !== 'GET') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('Only GET /metrics is here.\n')
      return
    }
    source.metrics().then(
      (text) => response.writeHead(200, { 'content-type': source.contentType }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  server.once('error', reject)
  server.listen({ host, port }, () => resolve(undefined))
  await promise.catch((error: NodeJS.ErrnoException) => {
    throw new Failure('telemetry.metrics_unreachable', `giving metrics at ${host}:${port}`, {
      cause: error,
      evidence: { host, port, error: error.code ?? error.message },
      ...(error.code === 'EADDRINUSE'
        ? { remediation: 'The port is taken: choose another with --metrics-port, or 0 for any that is free.' }
        : {}),
    })
  })
  server.unref()
  const bound = server.address()
  const at = typeof bound === 'object' && bound !== null ? bound.port : port
  return {
    address: `http://${host.includes(':') ? `[${host}]` : host}:${at}/metrics`,
    close: () =>
      new Promise((done) => {
        server.close(() => done())
        server.closeAllConnections()
      }),
  }
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host.startsWith('127.')

/** What is wrong with giving metrics at this address from here: in a container nobody outside reaches its loopback. Null: nothing. */
export function checkReach(host: string, { isContainer }: { isContainer: boolean }): Failure | null {
  if (!isContainer || !isLoopback(host)) return null
  return new Failure('telemetry.metrics_unreachable', `giving metrics at ${host} inside a container`, {
    evidence: { host, container: true },
    remediation: 'Only this container reaches that address: bind to 0.0.0.0 with --host (a worker: --metrics-host).',
  })
}
