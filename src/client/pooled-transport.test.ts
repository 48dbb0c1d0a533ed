import { mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { deferred } from '../base/deferred.ts'
import { canMakeCertificates, selfSigned } from '../../test/support/certificates.ts'
import { pooledTransport } from './pooled-transport.ts'
import type { TransportRequest } from './transport.ts'

const ask = (path: string, more: Partial<TransportRequest> = {}): TransportRequest => ({
  method: 'POST',
  path,
  headers: { 'content-type': 'application/json' },
  body: '{"asked":"ü"}',
  repeatable: true,
  ...more,
})

type Answers = (
  asked: { request: http.IncomingMessage; body: string; n: number },
  response: http.ServerResponse,
) => unknown

/** A server that answers the first request well, which is how it is found, and then as it is told. */
async function found(answers: Answers, { ca = null as string | null, tls = {} } = {}) {
  const seen: { socket: Socket; body: string; path: string }[] = []
  const onRequest: http.RequestListener = (request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => (body += text))
    request.on('end', () => {
      const n = seen.push({ socket: request.socket, body, path: request.url ?? '' })
      if (n === 1) response.writeHead(200, { 'content-type': 'application/json' }).end('{"n":1}')
      else answers({ request, body, n }, response)
    })
  }
  const server = ca === null ? http.createServer(onRequest) : https.createServer(tls, onRequest)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const { port } = server.address() as AddressInfo // a TCP server
  const transport = pooledTransport({
    address: `${ca === null ? 'http' : 'https'}://127.0.0.1:${port}/way/in`,
    addressFrom: '--server',
    ...(ca === null ? {} : { ca }),
  })
  onTestFinished(() => {
    transport.close()
    server.closeAllConnections()
    server.close()
  })
  expect(await transport.send(ask('/v1/first'))).toMatchObject({ status: 200, body: '{"n":1}' })
  return {
    transport,
    seen,
    server,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

describe('a server that was found', () => {
  test('is asked over connections that are kept: method, path, headers and body as they are', async () => {
    const { transport, seen } = await found(({ request, body, n }, response) => {
      const { method, url, headers } = request
      response.writeHead(201, { 'content-type': 'application/json; charset=utf-8' })
      response.write(JSON.stringify({ method, url, type: headers['content-type'], body }).slice(0, 20))
      response.end(JSON.stringify({ method, url, type: headers['content-type'], body, n }).slice(20))
    })
    const answers = []
    for (let i = 0; i < 6; i++) answers.push(await transport.send(ask(`/v1/x?i=${i}`)))
    expect(answers[5]).toMatchObject({ status: 201, contentType: 'application/json; charset=utf-8' })
    expect(answers[5]?.body).toContain('"url":"/way/in/v1/x?i=5"')
    expect(seen.map(({ body }) => body)).toEqual(Array(7).fill('{"asked":"ü"}'))
    expect(new Set(seen.slice(1).map(({ socket }) => socket)).size).toBeLessThan(3)
    const bare = await transport.send(ask('/v1/y', { method: 'GET', body: null }))
    expect(bare.body).toContain('"method":"GET"')
  })

  test('answers many at once', async () => {
    const { transport } = await found(({ body }, response) => response.end(body))
    const asked = Array.from({ length: 100 }, (_, i) => transport.send(ask('/v1/x', { body: String(i) })))
    expect((await Promise.all(asked)).map(({ body }) => Number(body))).toEqual(Array.from({ length: 100 }, (_, i) => i))
  })

  test('that cuts a connection is asked again where that is safe, and only there', async () => {
    const { transport, seen } = await found(({ request, n }, response) =>
      n % 2 === 0 ? request.socket.destroy() : response.end('again'),
    )
    expect((await transport.send(ask('/v1/x'))).body).toBe('again')
    expect(seen).toHaveLength(3)
    await expect(transport.send(ask('/v1/y', { repeatable: false }))).rejects.toMatchObject({
      code: 'client.server_unreachable',
      evidence: { layer: 'http', addressFrom: '--server' },
    })
    expect(seen).toHaveLength(4)
    expect((await transport.send(ask('/v1/z'))).body).toBe('again')
  })

  test('that is silent is not asked again: it was waited for', async () => {
    const { transport, seen } = await found(() => undefined)
    await expect(transport.send(ask('/v1/x', { silenceMs: 50 }))).rejects.toMatchObject({
      code: 'client.server_unreachable',
      evidence: { layer: 'http', error: 'ETIMEDOUT' },
    })
    expect(seen).toHaveLength(2)
  })

  test('that is gone is told as one that is not there', async () => {
    const { transport, stop } = await found((_, response) => response.end('ok'))
    await transport.send(ask('/v1/x'))
    await stop()
    await expect(transport.send(ask('/v1/x'))).rejects.toMatchObject({
      code: 'client.server_unreachable',
      evidence: { layer: 'tcp', error: 'ECONNREFUSED' },
    })
  })

  test('hears of it when who asked gives up, before and after it was sent', async () => {
    const closed = deferred<void>()
    const isThere = deferred<void>()
    const { transport, seen } = await found(({ request }) => {
      request.socket.once('close', () => closed.resolve())
      isThere.resolve()
    })
    const enough = new Error('enough')
    await expect(transport.send(ask('/v1/x', { signal: AbortSignal.abort(enough) }))).rejects.toBe(enough)
    expect(seen).toHaveLength(1)
    const gone = new AbortController()
    const asked = transport.send(ask('/v1/x', { signal: gone.signal }))
    await isThere.promise
    gone.abort(enough)
    await expect(asked).rejects.toBe(enough)
    await closed.promise
    expect(seen).toHaveLength(2)
  })

  test.skipIf(!canMakeCertificates)('over TLS, by an authority of one’s own', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'orrery-tls-'))
    onTestFinished(() => rmSync(dir, { recursive: true }))
    const { cert, key } = selfSigned(dir, 'localhost', 'IP:127.0.0.1')
    const { transport } = await found((_, response) => response.end('ok'), { ca: cert, tls: { cert, key } })
    expect((await transport.send(ask('/v1/x'))).body).toBe('ok')
  })
})
