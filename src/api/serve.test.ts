import { connect } from 'node:net'
import http from 'node:http'
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { Secret } from '../base/secret.ts'
import { createClient, createExchangeLane, httpTransport, type Transport } from '../client/index.ts'
import { ADMIN, type ApiRig, eventually, makeApi, serveApi } from './api-rig.ts'
import { ADMIN_TOKEN, RUN_ID, WORKER_TOKEN } from './scripted-engine.ts'
import type { Serving } from './serve.ts'

let rig: ApiRig
let serving: Serving
let transport: Transport
beforeEach(async () => {
  rig = makeApi()
  serving = await serveApi(rig.api)
  transport = httpTransport({ address: `http://127.0.0.1:${serving.port}` })
})
afterEach(async () => {
  transport.close()
  await serving.close()
})

/** Sends raw bytes and gives what comes back until the server closes. */
function sendRaw(bytes: string, port = serving.port): Promise<string> {
  return new Promise((resolve) => {
    let got = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (chunk) => (got += chunk.toString()))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(got))
  })
}
const AUTH = `authorization: ${ADMIN.authorization}\r\n`

test('a body of 10 MB is refused with 413, declared or not', async () => {
  const big = JSON.stringify({ definition: 'x', inputs: { text: 'a'.repeat(10 * 1024 * 1024) } })
  const statuses = await Promise.all(
    [true, false].map(
      (declared) =>
        new Promise<string>((resolve, reject) => {
          const headers = { ...ADMIN, ...(declared ? { 'content-length': big.length } : {}) }
          const request = http.request(
            { port: serving.port, method: 'POST', path: '/v1/runs', headers },
            (response) => {
              let text = ''
              response.on('data', (chunk) => (text += String(chunk)))
              response.on('end', () => resolve(`${response.statusCode} ${(JSON.parse(text) as { code: string }).code}`))
            },
          )
          request.on('error', reject)
          request.end(big)
        }),
    ),
  )
  expect(statuses).toEqual(['413 request.too_large', '413 request.too_large'])
  expect(rig.engine.created).toEqual([])
})

test('a body that stops coming is given up with 408, and others are served meanwhile', async () => {
  const impatient = await serveApi(rig.api, { requestStallMs: 200 })
  onTestFinished(() => impatient.close())
  const slow = sendRaw(`POST /v1/runs HTTP/1.1\r\nhost: x\r\n${AUTH}content-length: 100\r\n\r\n{"defi`, impatient.port)
  expect(await createClient({ transport, token: new Secret(ADMIN_TOKEN) }).getRun(RUN_ID)).toMatchObject({ id: RUN_ID })
  expect(await slow).toMatch(/^HTTP\/1\.1 408 [^]*"code":"request\.invalid"/)
})

test('bytes that are no HTTP, a bad Host and headers without end are answered with problems', async () => {
  expect(await sendRaw('hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 [^]*request\.invalid/)
  expect(await sendRaw('GET /healthz HTTP/1.1\r\nhost: a/b\r\nconnection: close\r\n\r\n')).toMatch(
    /^HTTP\/1\.1 400 [^]*request\.invalid/,
  )
  expect(await sendRaw(`GET / HTTP/1.1\r\nx: ${'a'.repeat(40_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /)
})

test('a body that is not UTF-8 is refused', async () => {
  const response = await fetch(`http://127.0.0.1:${serving.port}/v1/runs`, {
    method: 'POST',
    headers: ADMIN,
    body: Buffer.from([0x22, 0xff, 0x22]),
  })
  expect(response.status).toBe(400)
  expect(await response.text()).toContain('UTF-8')
})

test('a poll whose connection is cut is no longer parked', async () => {
  const lane = createExchangeLane({ transport, token: new Secret(WORKER_TOKEN) })
  const gone = new AbortController()
  const poll = lane.poll({ session: 's', free: 1, held: [], draining: false }, gone.signal).catch((e: unknown) => e)
  await eventually(() => rig.engine.parked === 1)
  gone.abort(new Error('left'))
  expect(await poll).toMatchObject({ message: 'left' })
  await eventually(() => rig.engine.parked === 0)
  expect(rig.errors).toEqual([])
})

test('a reader of events who goes away ends the following', async () => {
  rig.engine.push('running')
  const client = createClient({ transport, token: new Secret(ADMIN_TOKEN) })
  for await (const event of client.followEvents(RUN_ID)) {
    expect(event.seq).toBe(1)
    break
  }
  await eventually(() => rig.engine.followers === 0)
})

test('a taken port names the process that holds it', async () => {
  await expect(serveApi(rig.api, { port: serving.port })).rejects.toMatchObject({
    code: 'config.port_in_use',
    evidence: { port: serving.port, ...(process.platform === 'linux' ? { heldBy: { pid: process.pid } } : {}) },
  })
})

test('closing twice is safe, and cuts what does not end by itself', async () => {
  const lane = createExchangeLane({ transport, token: new Secret(WORKER_TOKEN) })
  const poll = lane.poll({ session: 's', free: 1, held: [], draining: false }).catch((e: unknown) => e)
  await eventually(() => rig.engine.parked === 1)
  await Promise.all([serving.close(), serving.close()])
  expect(await poll).toMatchObject({ code: 'client.server_unreachable', evidence: { layer: 'http' } })
})
