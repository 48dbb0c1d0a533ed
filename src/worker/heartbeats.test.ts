import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Worker as Thread } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { Secret, silentLog } from '../base/index.ts'
import { threadHeartbeats } from './heartbeats.ts'

test('a heartbeat comes from its own thread, with the token, and tells when the session has ended', async () => {
  const seen: unknown[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      seen.push([request.method, request.url, request.headers.authorization, JSON.parse(body)])
      if (seen.length === 1) return response.destroy()
      const sessionState = seen.length < 4 ? 'live' : 'ended'
      return response.end(JSON.stringify({ sessionState, leaseMs: 8_000 }))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A server on a TCP port has an address of this form.
  const { port } = server.address() as AddressInfo
  const start = threadHeartbeats({ servers: [`http://127.0.0.1:${port}/`], token: new Secret('t0k'), log: silentLog })
  await new Promise<void>((resolve) => {
    const handle = start({ session: 'ses_1', heartbeatMs: 5 }, () => {
      handle.stop()
      resolve()
    })
  })
  const beat = ['POST', '/v1/exchange/heartbeat', 'Bearer t0k', { session: 'ses_1', clock: expect.any(Number) }]
  // More of them while the word of the end was on its way is no harm.
  expect(seen.length).toBeGreaterThanOrEqual(4)
  expect(seen).toEqual(seen.map(() => beat))
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

test('a beat that one server does not take goes to the next, and so do those that follow', async () => {
  const heard: string[] = []
  const listen = async (server: Server): Promise<string> => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}` // a server on a TCP port has an address of this form
  }
  const broken = createServer((_request, response) => {
    heard.push('broken')
    response.writeHead(503).end()
  })
  const sound = createServer((_request, response) => {
    heard.push('sound')
    response.end(JSON.stringify({ sessionState: heard.length < 4 ? 'live' : 'ended', leaseMs: 8_000 }))
  })
  const servers = [await listen(broken), await listen(sound)]
  await new Promise<void>((resolve) => {
    const handle = threadHeartbeats({ servers, token: null, log: silentLog })(
      { session: 'ses_1', heartbeatMs: 500 },
      () => {
        handle.stop()
        resolve()
      },
    )
  })
  expect(heard).toEqual(['broken', 'sound', 'sound', 'sound'])
  for (const server of [broken, sound]) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

test('a step that blocks the event loop does not stop the heartbeats', async () => {
  const beats = new Int32Array(new SharedArrayBuffer(8))
  const source = `
    const { createServer } = require('node:http')
    const { workerData, parentPort } = require('node:worker_threads')
    const server = createServer((request, response) => {
      Atomics.add(workerData, 0, 1)
      Atomics.notify(workerData, 0)
      response.end('{"sessionState":"live","leaseMs":8000}')
    })
    server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))`
  const thread = new Thread(source, { eval: true, workerData: beats, execArgv: [] })
  const port = await new Promise<number>((resolve) => thread.once('message', resolve))
  const start = threadHeartbeats({ servers: [`http://127.0.0.1:${port}`], token: null, log: silentLog })
  const handle = start({ session: 'ses_1', heartbeatMs: 5 }, () => {})
  // Nothing of this thread runs until five beats were counted.
  for (let seen = 0; seen < 5; seen = Atomics.load(beats, 0)) {
    if (Atomics.wait(beats, 0, seen, 30_000) === 'timed-out') break
  }
  expect(Atomics.load(beats, 0)).toBeGreaterThanOrEqual(5)
  handle.stop()
  await thread.terminate()
})
