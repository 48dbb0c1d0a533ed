import { describe, expect, test } from 'vitest'
import { HandClock, systemClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { seededRandom } from '../../base/random.ts'
import { callOf, callTool, envOf, toolOf } from '../testing/tool-rig.ts'
import { sendJson, serveTool } from '../testing/tool-server.ts'
import { createEgress, withinHosts } from '../egress.ts'
import { createToolRunner } from './create-tool-runner.ts'
import type { ToolEnv } from './tool-driver.ts'

const ref = (key: string): JsonObject => ({ secret: 'api', key })
const SECRETS = { 'api/id': 'client-1', 'api/secret': 'correct-horse', 'api/user': 'someone', 'api/blank': ' \n' }

describe('who calls is shown', () => {
  test.for<[what: string, auth: JsonObject, header: string, value: string]>([
    ['as a bearer', { type: 'bearer', token: ref('secret') }, 'authorization', 'Bearer correct-horse'],
    ['in a header of its own', { type: 'header', name: 'X-Key', value: ref('secret') }, 'x-key', 'correct-horse'],
    [
      'by name and password',
      { type: 'basic', username: 'me', password: ref('secret') },
      'authorization',
      `Basic ${Buffer.from('me:correct-horse').toString('base64')}`,
    ],
    [
      'by a name that is secret too',
      { type: 'basic', username: ref('user'), password: ref('secret') },
      'authorization',
      `Basic ${Buffer.from('someone:correct-horse').toString('base64')}`,
    ],
  ])('%s, and never comes back', async ([, auth, header, value]) => {
    const server = await serveTool((seen, response) => sendJson(response, seen.headers))
    const { result } = await callTool({ type: 'http', http: { url: server.url }, auth }, {}, { secrets: SECRETS })
    expect(server.seen[0]?.headers[header]).toBe(value)
    expect(JSON.stringify(result)).not.toContain('correct-horse')
    expect(JSON.stringify(result)).not.toContain(value)
    expect(result).toMatchObject({ ok: true })
  })

  test.for<[what: string, key: string, code: string]>([
    ['is not there', 'nothing', 'secret.not_found'],
    ['is blank', 'blank', 'tool.auth_failed'],
  ])('not at all when the secret %s', async ([, key, code]) => {
    const server = await serveTool((_, response) => sendJson(response, 1))
    const spec = { type: 'http', http: { url: server.url }, auth: { type: 'bearer', token: ref(key) } }
    expect((await callTool(spec, {}, { secrets: SECRETS })).result).toMatchObject({ ok: false, code, retryable: false })
    expect(server.seen).toEqual([])
  })
})

/** A tool, who gives tokens for it, and a runner that keeps them. */
async function borrowing(
  given: { auth?: JsonObject; token?: JsonObject; tokenStatus?: number; isGood?: (token: string) => boolean } = {},
) {
  let tokens = 0
  const login = await serveTool((_, response) =>
    sendJson(
      response,
      { access_token: `token-number-${++tokens}`, token_type: 'Bearer', expires_in: 100, ...given.token },
      given.tokenStatus ?? 200,
    ),
  )
  const tool = await serveTool((seen, response) => {
    const token = String(seen.headers.authorization).replace('Bearer ', '')
    if (given.isGood && !given.isGood(token)) response.writeHead(401).end('no')
    else sendJson(response, { you: token })
  })
  const clock = Object.assign(new HandClock(0), { sleep: systemClock.sleep })
  const runner = createToolRunner({ clock, random: seededRandom(1) })
  const spec = toolOf({
    type: 'http',
    allowPrivateAddresses: true,
    operation: 'write',
    http: { url: tool.url },
    auth: {
      type: 'oauth2',
      tokenUrl: `${login.url}/token`,
      clientId: ref('id'),
      clientSecret: ref('secret'),
      ...given.auth,
    },
  })
  const call = (more: Partial<ToolEnv> = {}) =>
    runner.call('it', spec, callOf({}), envOf(SECRETS, { clock, ...more }).env)
  const shown = () => tool.seen.map(({ headers }) => headers.authorization)
  return { call, clock, login, tool, shown }
}

describe('a token of client credentials', () => {
  test('is borrowed once, used until it ends, and never comes back', async () => {
    const { call, clock, login, shown } = await borrowing({ auth: { scopes: ['a', 'b'], audience: 'tools' } })
    expect((await call()).result).toEqual({ ok: true, output: { you: '[secret]' } })
    clock.advance(69_999)
    await call()
    expect(shown()).toEqual(['Bearer token-number-1', 'Bearer token-number-1'])
    clock.advance(1)
    expect((await call()).result).toEqual({ ok: true, output: { you: '[secret]' } })
    expect(shown().at(-1)).toBe('Bearer token-number-2')
    expect(login.seen).toMatchObject([
      {
        url: '/token',
        body: 'grant_type=client_credentials&scope=a+b&audience=tools',
        headers: { authorization: `Basic ${Buffer.from('client-1:correct-horse').toString('base64')}` },
      },
      {},
    ])
  })

  test('is not handed to whom a rule does not let borrow it', async () => {
    const { call, login, tool } = await borrowing()
    expect((await call()).result.ok).toBe(true)
    const { hostname } = new URL(tool.url)
    const egress = withinHosts(createEgress(), [{ rule: 'policy/hosts', hosts: ['elsewhere.example'] }])
    expect((await call({ egress })).result).toMatchObject({
      ok: false,
      code: 'policy.denied',
      evidence: { host: hostname },
    })
    expect([login.seen.length, tool.seen.length]).toEqual([1, 1])
  })

  test('is borrowed by the body where that is wanted', async () => {
    const { call, login } = await borrowing({ auth: { clientIn: 'body' } })
    await call()
    expect(login.seen[0]?.body).toBe('grant_type=client_credentials&client_id=client-1&client_secret=correct-horse')
    expect(login.seen[0]?.headers).not.toHaveProperty('authorization')
  })

  test('is borrowed where the manifest says, and what is shown for it goes nowhere else', async () => {
    const elsewhere = await serveTool((_, response) => sendJson(response, { access_token: 'a-token' }))
    const login = await serveTool((_, response) => response.writeHead(307, { location: elsewhere.url }).end())
    const auth = {
      type: 'oauth2',
      tokenUrl: login.url,
      clientId: ref('id'),
      clientSecret: ref('secret'),
      clientIn: 'body',
    }
    const spec = { type: 'http', http: { url: login.url }, auth }
    const { result } = await callTool(spec, {}, { secrets: SECRETS })
    expect(result).toMatchObject({ ok: false, code: 'tool.auth_failed', evidence: { status: 307 } })
    expect(result).toMatchObject({ reason: expect.stringContaining(elsewhere.url) })
    expect(elsewhere.seen).toEqual([])
  })

  test('is borrowed by one of many that need it', async () => {
    const { call, login } = await borrowing()
    const all = await Promise.all(Array.from({ length: 20 }, () => call()))
    expect([all.every(({ result }) => result.ok), login.seen.length]).toEqual([true, 1])
  })

  test('that ended is borrowed anew by one of many', async () => {
    const { call, clock, login, shown } = await borrowing()
    await call()
    clock.advance(100_000)
    await Promise.all(Array.from({ length: 20 }, () => call()))
    expect(login.seen.length).toBe(2)
    expect(new Set(shown().slice(1))).toEqual(new Set(['Bearer token-number-2']))
  })

  test('is borrowed anew when it was refused, once a call, also of a writing tool', async () => {
    const renewed = await borrowing({ isGood: (token) => token !== 'token-number-1' })
    expect(await renewed.call()).toMatchObject({ result: { ok: true }, tries: 1 })
    expect(renewed.shown()).toEqual(['Bearer token-number-1', 'Bearer token-number-2'])
    const never = await borrowing({ isGood: () => false })
    expect((await never.call()).result).toMatchObject({ code: 'tool.auth_failed', evidence: { status: 401 } })
    expect([never.login.seen.length, never.tool.seen.length]).toEqual([2, 2])
  })

  test.for<[what: string, given: { token?: JsonObject; tokenStatus?: number }]>([
    ['refuses', { token: { error: 'invalid_client', echoed: 'correct-horse' }, tokenStatus: 401 }],
    ['gives no token', { token: { access_token: '' } }],
  ])('that nobody gives is not used: who %s is named', async ([, given]) => {
    const { call, tool, login } = await borrowing(given)
    const { result } = await call()
    expect(result).toMatchObject({
      ok: false,
      code: 'tool.auth_failed',
      evidence: { tokenUrl: expect.stringContaining('/token') },
    })
    expect(JSON.stringify(result)).not.toContain('correct-horse')
    await call()
    expect([tool.seen.length, login.seen.length]).toEqual([0, 2])
  })
})
