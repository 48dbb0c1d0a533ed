import http from 'node:http'
import net, { type AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { Secret } from '../base/secret.ts'
import { createClient } from './create-client.ts'
import { httpTransport } from './http-transport.ts'
import { pooledTransport } from './pooled-transport.ts'

const open: net.Server[] = []
afterEach(() => {
  for (const server of open.splice(0)) {
    if (server instanceof http.Server) server.closeAllConnections()
    server.close()
  }
})

async function listen(server: net.Server): Promise<number> {
  open.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  return (server.address() as AddressInfo).port
}

type Opens = typeof httpTransport

async function failureAt(opens: Opens, address: string, silenceMs?: number): Promise<unknown> {
  const transport = opens({ address, addressFrom: '--server', ...(silenceMs ? { silenceMs } : {}) })
  try {
    return await createClient({ transport, token: new Secret('t') }).getHealth()
  } catch (error) {
    return error
  } finally {
    transport.close()
  }
}

const unreachable = (layer: string) => ({
  code: layer === 'tls' ? 'client.tls_failed' : 'client.server_unreachable',
  evidence: { layer, addressFrom: '--server' },
})

describe.each([
  ['who asks once', httpTransport],
  ['who asks often', pooledTransport],
] as const)('for %s, a server that cannot be reached: which part of the way failed', (_, opens) => {
  test('the name', async () => {
    expect(await failureAt(opens, 'http://no-such-host.invalid:1')).toMatchObject(unreachable('name'))
  })

  test('the connection', async () => {
    const server = net.createServer()
    const port = await listen(server)
    await new Promise((resolve) => server.close(resolve))
    expect(await failureAt(opens, `http://127.0.0.1:${port}`)).toMatchObject(unreachable('tcp'))
  })

  test('TLS: the server speaks plain HTTP', async () => {
    const port = await listen(http.createServer((_, response) => response.end('{}')))
    expect(await failureAt(opens, `https://127.0.0.1:${port}`)).toMatchObject(unreachable('tls'))
  })

  test('HTTP: it accepts and hangs up, or says nothing', async () => {
    const rude = await listen(net.createServer((socket) => socket.once('data', () => socket.destroy())))
    expect(await failureAt(opens, `http://127.0.0.1:${rude}`)).toMatchObject(unreachable('http'))
    const silent = await listen(http.createServer(() => undefined))
    expect(await failureAt(opens, `http://127.0.0.1:${silent}`, 50)).toMatchObject(unreachable('http'))
  })

  test('a proxy in between that finds no server', async () => {
    const port = await listen(
      http.createServer((_, r) => r.writeHead(502, { 'content-type': 'text/html' }).end('<h1>')),
    )
    expect(await failureAt(opens, `http://127.0.0.1:${port}`)).toMatchObject(unreachable('proxy'))
  })

  test('something that is no Orrery', async () => {
    const page = await listen(
      http.createServer((_, r) => r.writeHead(404, { 'content-type': 'text/html' }).end('<h1>nginx</h1>')),
    )
    expect(await failureAt(opens, `http://127.0.0.1:${page}`)).toMatchObject({
      ...unreachable('not-orrery'),
      evidence: { status: 404, begin: '<h1>nginx</h1>' },
    })
    const noHttp = await listen(net.createServer((socket) => socket.once('data', () => socket.end('SSH-2.0-x\r\n'))))
    expect(await failureAt(opens, `http://127.0.0.1:${noHttp}`)).toMatchObject(unreachable('not-orrery'))
  })

  test('an address that is none', () => {
    expect(() => opens({ address: 'localhost:7070' })).toThrow(
      expect.objectContaining({ code: 'config.value_unsupported' }),
    )
  })
})

test.each([
  ['once', httpTransport],
  ['often', pooledTransport],
] as const)(
  'a kept connection that the server closed meanwhile is replaced for a request that is safe twice: %s',
  async (_, opens) => {
    let requests = 0
    const server = http.createServer((request, response) => {
      requests++
      // The second request of a connection meets a closed door.
      if (requests === 2) request.socket.destroy()
      else response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}')
    })
    const transport = opens({ address: `http://127.0.0.1:${await listen(server)}` })
    const client = createClient({ transport, token: null })
    await client.getHealth()
    expect(await client.getHealth()).toEqual({ status: 'ok' })
    expect(requests).toBe(3)
    transport.close()
  },
)
