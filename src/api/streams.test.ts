import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { HandClock, type Clock } from '../base/clock.ts'
import { Secret } from '../base/secret.ts'
import { type Client, createClient, handlerTransport, httpTransport, type Transport } from '../client/index.ts'
import { Failure } from '../domain/failure.ts'
import { ADMIN, type ApiRig, eventually, makeApi, serveApi } from './api-rig.ts'
import { ADMIN_TOKEN, RUN_ID } from './scripted-engine.ts'
import type { Serving } from './serve.ts'
import { streamBody } from './streams.ts'

/** A proxy that cuts every connection once it has carried so many bytes back. */
async function startCuttingProxy(targetPort: number, cutAfter: (n: number) => number) {
  const sockets = new Set<Socket>()
  let connections = 0
  const server: Server = createServer((client) => {
    let left = cutAfter(connections++)
    const upstream = connect(targetPort, '127.0.0.1')
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    }
    client.pipe(upstream)
    upstream.on('data', (chunk) => {
      client.write(chunk.subarray(0, left))
      left -= chunk.length
      if (left <= 0) {
        client.end()
        upstream.destroy()
      }
    })
    client.on('close', () => upstream.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  const close = () => {
    for (const socket of sockets) socket.destroy()
    return new Promise((resolve) => server.close(resolve))
  }
  return { port: (server.address() as AddressInfo).port, connections: () => connections, close }
}

/** Waits no longer than it must, so that back-off takes no time. */
const hurried: Clock = {
  now: () => 0,
  monotonic: () => 0,
  sleep: () => new Promise((resolve) => setImmediate(resolve)),
}

let rig: ApiRig
let serving: Serving
let proxy: Awaited<ReturnType<typeof startCuttingProxy>>
let transport: Transport
let client: Client
beforeEach(async () => {
  rig = makeApi()
  serving = await serveApi(rig.api)
  // Enough for the head and some frames, cut somewhere in the middle of one.
  proxy = await startCuttingProxy(serving.port, (n) => 900 + ((n * 37) % 200))
  transport = httpTransport({ address: `http://127.0.0.1:${proxy.port}` })
  client = createClient({ transport, token: new Secret(ADMIN_TOKEN), clock: hurried })
})
afterEach(async () => {
  transport.close()
  await proxy.close()
  await serving.close()
})

test('events through a proxy that cuts connections: no gap, no repeat, ends with the terminal one', async () => {
  for (let i = 0; i < 40; i++) rig.engine.push(`state-${i}`)
  const seen: number[] = []
  const following = (async () => {
    for await (const event of client.followEvents(RUN_ID)) {
      seen.push(event.seq)
      if (event.terminal) expect(event.seq).toBe(61)
    }
  })()
  await eventually(() => seen.length >= 40)
  for (let i = 0; i < 20; i++) rig.engine.push(`late-${i}`)
  rig.engine.push('succeeded', true)
  await following
  expect(seen).toEqual(Array.from({ length: 61 }, (_, i) => i + 1))
  expect(proxy.connections()).toBeGreaterThan(3)
})

test('a log through a proxy that cuts connections is whole', async () => {
  for (let i = 0; i < 60; i++) rig.engine.write(`line ${i} é`)
  rig.engine.ended = true
  const seen: string[] = []
  for await (const line of client.followLogs(RUN_ID, { follow: true })) seen.push(line.text)
  expect(seen).toEqual(Array.from({ length: 60 }, (_, i) => `line ${i} é`))
  expect(proxy.connections()).toBeGreaterThan(3)
})

test('following from the terminal event on ends at once', async () => {
  rig.engine.push('succeeded', true)
  const direct = createClient({ transport: handlerTransport(rig.api.fetch), token: new Secret(ADMIN_TOKEN) })
  const seen: unknown[] = []
  for await (const event of direct.followEvents(RUN_ID, { afterSeq: 1 })) seen.push(event)
  expect(seen).toEqual([])
})

test('a failure in the middle of a stream reaches the follower', async () => {
  rig.engine.push('running')
  const direct = createClient({ transport: handlerTransport(rig.api.fetch), token: new Secret(ADMIN_TOKEN) })
  const broken = new Failure('run.stalled', 'reading events')
  rig.engine.followEvents = async function* () {
    yield { seq: 1, at: '', changes: [], terminal: false }
    throw new Failure('run.not_found', 'reading events', { cause: broken })
  }
  const seen: number[] = []
  const following = (async () => {
    for await (const event of direct.followEvents(RUN_ID)) seen.push(event.seq)
  })()
  await expect(following).rejects.toMatchObject({ code: 'run.not_found', cause: { code: 'run.stalled' } })
  expect(seen).toEqual([1])
})

test('an unknown run is refused before the stream begins', async () => {
  await expect(async () => {
    for await (const _ of client.followEvents('run_zzzzzzzzzzzzzzzzzzzzzzzzzz')) throw new Error('no events are there')
  }).rejects.toMatchObject({ code: 'run.not_found' })
})

test('events as a list hold what is there, and the log as text reads like a terminal', async () => {
  rig.engine.push('running')
  rig.engine.write('hello')
  const get = (path: string, accept: string) =>
    rig.api.fetch(new Request(`http://x/v1/runs/${RUN_ID}/${path}`, { headers: { ...ADMIN, accept } }))
  expect(await (await get('events', 'application/json')).json()).toMatchObject([{ seq: 1, terminal: false }])
  expect(await (await get('logs', 'text/plain')).text()).toBe('build | hello\n')
  expect(await (await get('logs?step=build', '*/*')).text()).toBe('hello\n')
})

test('a quiet stream sends heartbeats, and a reader that does not read makes nothing pile up', async () => {
  const clock = new HandClock(0)
  let given = 0
  async function* endless(signal: AbortSignal) {
    while (given < 2) yield ++given
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
  }
  const form = { item: String, heartbeat: 'beat', heartbeatMs: 1000, end: () => 'end', failed: () => 'failed' }
  const body = streamBody<number>(endless, form, { clock, signal: new AbortController().signal })
  await new Promise((resolve) => setImmediate(resolve))
  expect(given).toBe(0)
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  expect((await reader.read()).value).toBe('1')
  expect((await reader.read()).value).toBe('2')
  const quiet = reader.read()
  await new Promise((resolve) => setImmediate(resolve))
  clock.advance(1000)
  expect((await quiet).value).toBe('beat')
  await reader.cancel()
})
