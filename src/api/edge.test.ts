import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { HandClock, systemClock } from '../base/clock.ts'
import { createIds } from '../base/ids.ts'
import { silentLog } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { LIMITS } from '../domain/limits.ts'
import { canMakeCertificates, selfSigned } from '../../test/support/certificates.ts'
import { ADMIN, serveApi } from './api-rig.ts'
import { createApi } from './create-api.ts'
import { AT_HOME, createEdge, type EdgeOptions } from './edge.ts'
import { RUN_ID, ScriptedEngine } from './scripted-engine.ts'

const ids = createIds(systemClock, systemRandom)
const metrics = { contentType: 'text/plain', metrics: () => '' }
const apiAt = (edge: Partial<EdgeOptions>, clock = systemClock) => {
  const engine = new ScriptedEngine()
  const deps = { engine, clock, ids, log: silentLog, version: '0', metrics, edge: { ...AT_HOME, ...edge } }
  return { engine, api: createApi(deps) }
}
const from = (remoteAddress: string, headers: Record<string, string> = {}) =>
  ({ socket: { remoteAddress }, headers, method: 'GET' }) as unknown as IncomingMessage // all that is read of it

describe('where a request comes from', () => {
  const { addressOf } = createEdge(systemClock, { ...AT_HOME, trustedProxies: ['10.0.0.0/8'] })

  test.for([
    ['nobody says more than the socket', '::ffff:192.0.2.7', '', '192.0.2.7'],
    ['a stranger is not believed', '192.0.2.7', '198.51.100.1', '192.0.2.7'],
    ['a trusted proxy is', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['only up to the first stranger', '10.0.0.1', '1.1.1.1, 198.51.100.1, 10.0.0.2', '198.51.100.1'],
    ['what is no address ends it', '10.0.0.1', 'nonsense, 10.0.0.2', '10.0.0.2'],
  ] as const)('%s', ([, peer, forwarded, address]) => {
    expect(addressOf(from(peer, forwarded === '' ? {} : { 'x-forwarded-for': forwarded }))).toBe(address)
  })

  test('a caller in the same process has no address, and without proxies nobody is believed', () => {
    expect(addressOf(undefined)).toBeNull()
    const home = createEdge(systemClock, AT_HOME)
    expect(home.addressOf(from('10.0.0.1', { 'x-forwarded-for': '1.2.3.4' }))).toBe('10.0.0.1')
  })

  test('a proxy that is trusted says that TLS was spoken; browsers are then told to keep to it', () => {
    const edge = createEdge(systemClock, { ...AT_HOME, trustedProxies: ['10.0.0.0/8'] })
    const hsts = { 'strict-transport-security': expect.any(String) }
    expect(edge.headersFor(from('10.0.0.1', { 'x-forwarded-proto': 'https' }), null)).toMatchObject(hsts)
    expect(edge.headersFor(from('10.0.0.1', { 'x-forwarded-proto': 'http' }), null)).toEqual({})
    expect(edge.headersFor(from('192.0.2.7', { 'x-forwarded-proto': 'https' }), null)).toEqual({})
  })
})

describe('pages of other origins', () => {
  const ask = async (origins: string[], origin: string, method = 'GET') => {
    const { api } = apiAt({ corsOrigins: origins })
    const response = await api.fetch(new Request('http://x/v1/runs', { method, headers: { ...ADMIN, origin } }))
    return { status: response.status, ...Object.fromEntries(response.headers) } as Record<string, unknown>
  }

  test('are let in by name, and none by default', async () => {
    const name = 'access-control-allow-origin'
    expect(await ask([], 'https://a.example')).not.toHaveProperty(name)
    expect(await ask(['https://a.example'], 'https://b.example')).not.toHaveProperty(name)
    const good = await ask(['https://a.example'], 'https://a.example')
    expect(good).toMatchObject({ [name]: 'https://a.example', vary: 'origin' })
    expect(good).not.toHaveProperty('access-control-allow-credentials')
  })

  test('are told before they ask what they may', async () => {
    expect(await ask(['https://a.example'], 'https://a.example', 'OPTIONS')).toMatchObject({
      status: 204,
      'access-control-allow-origin': 'https://a.example',
      'access-control-allow-methods': expect.stringContaining('POST'),
      'access-control-allow-headers': expect.stringContaining('authorization'),
    })
    expect(await ask(['https://a.example'], 'https://b.example', 'OPTIONS')).not.toHaveProperty(
      'access-control-allow-methods',
    )
  })
})

describe('who asks too much', () => {
  const ask = (api: ReturnType<typeof apiAt>['api'], path: string, token: string, incoming?: IncomingMessage) =>
    api.fetch(
      new Request(`http://x${path}`, { headers: { authorization: `Bearer ${token}` } }),
      incoming ? { incoming } : {},
    )
  const bearer = ADMIN.authorization.replace('Bearer ', '')

  test('with a good token waits as Retry-After says, and others are not held up', async () => {
    const clock = new HandClock(0)
    const { api } = apiAt({}, clock)
    for (let i = 0; i < LIMITS.requestsOfToken.burst; i++) {
      const { status } = await ask(api, '/v1/whoami', bearer)
      if (status !== 200) throw new Error(`request ${i} was answered with ${status}`)
    }
    const limited = await ask(api, '/v1/whoami', bearer)
    expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '1'])
    expect(await limited.json()).toMatchObject({ code: 'request.rate_limited', evidence: { who: 'token tok_admin' } })
    clock.advance(1_000)
    expect((await ask(api, '/v1/whoami', bearer)).status).toBe(200)
  })

  test('guessing tokens is refused without a look, and a good token from the same place is not', async () => {
    const { api, engine } = apiAt({}, new HandClock(0))
    const asked: string[] = []
    const authenticate = engine.authenticate.bind(engine)
    engine.authenticate = (token) => {
      asked.push(token)
      return authenticate(token)
    }
    const guesser = from('192.0.2.7', { authorization: 'Bearer guess' })
    const { burst } = LIMITS.refusalsOfAddress
    for (let i = 0; i < burst; i++) expect((await ask(api, '/v1/runs', 'guess', guesser)).status).toBe(401)
    const before = asked.length
    const limited = await ask(api, '/v1/runs', 'guess', guesser)
    expect(limited.status).toBe(429)
    expect(asked.length).toBe(before)
    const good = from('192.0.2.7', { authorization: ADMIN.authorization })
    expect((await ask(api, '/v1/runs', bearer, good)).status).toBe(200)
    const elsewhere = from('192.0.2.8', { authorization: 'Bearer guess' })
    expect((await ask(api, '/v1/runs', 'guess', elsewhere)).status).toBe(401)
  })

  test('of what is open to all is held up by address', async () => {
    const { api } = apiAt({}, new HandClock(0))
    const incoming = from('192.0.2.7')
    for (let i = 0; i < LIMITS.openRequestsOfAddress.burst; i++) await ask(api, '/healthz', 'x', incoming)
    expect((await ask(api, '/healthz', 'x', incoming)).status).toBe(429)
    expect((await ask(api, '/healthz', 'x', from('192.0.2.8'))).status).toBe(200)
  })
})

test('every answer carries the security headers, also those to what is no request', async () => {
  const { api } = apiAt({})
  const serving = await serveApi(api)
  onTestFinished(() => serving.close())
  const address = `http://127.0.0.1:${serving.port}`
  const answers = [
    await fetch(`${address}/healthz`),
    await fetch(`${address}/nothing`),
    await fetch(`${address}/v1/runs`),
    await fetch(`${address}/v1/runs`, { method: 'DELETE', headers: ADMIN }),
    await fetch(`${address}/v1/runs/${RUN_ID}/logs`, { headers: ADMIN }),
    await fetch(`${address}/healthz`, { headers: { 'x-long': 'a'.repeat(20_000) } }),
  ]
  expect(answers.map((a) => a.status)).toEqual([200, 404, 401, 405, 200, 431])
  for (const answer of answers) {
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
    expect(answer.headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(answer.headers.get('referrer-policy')).toBe('no-referrer')
    await answer.body?.cancel()
  }
})

test.skipIf(!canMakeCertificates)(
  'HTTPS is spoken with a certificate, and a key that is none is refused by name',
  async () => {
    const dir = mkdtempSync(join(tmpdir(), 'orrery-tls-'))
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
    const { cert, key } = selfSigned(dir, 'server', 'DNS:localhost,IP:127.0.0.1')
    const { api } = apiAt({ isTls: true })
    await expect(serveApi(api, { tls: { cert, key: 'no key' } })).rejects.toMatchObject({
      code: 'config.value_unsupported',
      evidence: { flags: ['--tls-cert', '--tls-key'] },
    })
    const serving = await serveApi(api, { tls: { cert, key } })
    onTestFinished(() => serving.close())
    const headers = await new Promise<Record<string, unknown>>((resolve, reject) => {
      const path = `https://localhost:${serving.port}/healthz`
      httpsRequest(path, { ca: cert, agent: false }, (response) => {
        response.resume()
        resolve({ status: response.statusCode, ...response.headers })
      })
        .on('error', reject)
        .end()
    })
    expect(headers).toMatchObject({ status: 200, 'strict-transport-security': 'max-age=31536000' })
  },
)
