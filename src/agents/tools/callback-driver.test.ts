import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { callTool } from '../testing/tool-rig.ts'
import { sendJson, serveTool } from '../testing/tool-server.ts'

const callback = (url: string, block: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  type: 'callback',
  ...more,
  callback: { url, interval: '1ms', ...block },
})

describe('a callback tool', () => {
  test('may answer at once', async () => {
    const server = await serveTool((_, response) => sendJson(response, { done: true }))
    expect((await callTool(callback(server.url), { q: 1 })).result).toEqual({ ok: true, output: { done: true } })
    expect(server.seen).toMatchObject([{ method: 'POST', body: '{"q":1}' }])
  })

  test('is looked at where it says until it is done, with the same key and headers', async () => {
    const server = await serveTool((_, response, count) => {
      if (count === 1) response.writeHead(202, { location: '/jobs/7' }).end()
      else if (count < 4) response.writeHead(count === 2 ? 202 : 204).end()
      else sendJson(response, [7])
    })
    const spec = callback(`${server.url}/jobs`, {
      headers: { 'X-Team': '${{ inputs.team }}' },
      body: { t: '${{ inputs.team }}' },
    })
    expect((await callTool(spec, { team: 'a' })).result).toEqual({ ok: true, output: [7] })
    expect(server.seen.map(({ method, url, body }) => [method, url, body])).toEqual([
      ['POST', '/jobs', '{"t":"a"}'],
      ['GET', '/jobs/7', ''],
      ['GET', '/jobs/7', ''],
      ['GET', '/jobs/7', ''],
    ])
    for (const { headers } of server.seen)
      expect(headers).toMatchObject({ 'x-team': 'a', 'idempotency-key': 'stp_1/call_1' })
  })

  test('may say the place and its state in its answers', async () => {
    const server = await serveTool((_, response, count) => {
      if (count === 1) sendJson(response, { status: { url: '/s' } }, 202)
      else sendJson(response, { state: ['new', 'running', 'done'][count - 2], result: 1 })
    })
    const pending = { path: '/state', values: ['new', 'running'] }
    const { result } = await callTool(callback(server.url, { location: '/status/url', pending }))
    expect(result).toEqual({ ok: true, output: { state: 'done', result: 1 } })
    expect(server.seen.length).toBe(4)
  })

  test('waits as long as it asks for', async () => {
    const slept: number[] = []
    const server = await serveTool((_, response, count) =>
      count === 1 ? response.writeHead(202, { location: '/j', 'retry-after': '7' }).end() : sendJson(response, count),
    )
    const { systemClock } = await import('../../base/clock.ts')
    const clock = {
      ...systemClock,
      sleep: (ms: number) => {
        slept.push(ms)
        return Promise.resolve()
      },
    }
    await callTool(callback(server.url, { interval: '3s' }), {}, { env: { clock } })
    expect(slept).toEqual([7_000])
  })

  test('is not called again when no token is to be had for a look', async () => {
    const tokens = await serveTool((_, response) => sendJson(response, { access_token: 'a-token', expires_in: 0.001 }))
    const server = await serveTool((_, response, count) => {
      if (count === 1) response.writeHead(202, { location: '/j' }).end()
      else sendJson(response, 'done')
    })
    const { systemClock } = await import('../../base/clock.ts')
    let borrowed = 0
    const clock = {
      ...systemClock,
      // The time to borrow the second token is over at once.
      sleep: (ms: number, signal?: AbortSignal) =>
        ms === 30_000 && ++borrowed === 2 ? Promise.resolve() : systemClock.sleep(ms, signal),
    }
    const auth = { type: 'oauth2', tokenUrl: tokens.url, clientId: 'me', clientSecret: { secret: 's', key: 'k' } }
    const spec = callback(server.url, { interval: '5ms' }, { auth, timeout: '1m', operation: 'write' })
    const { result, tries } = await callTool(spec, {}, { secrets: { 's/k': 'hidden-value' }, env: { clock } })
    expect(result).toEqual({ ok: true, output: 'done' })
    expect([tries, server.seen.map(({ method }) => method)]).toEqual([1, ['POST', 'GET']])
  })

  test('is not called again when a look fails, and looked at again when that passes', async () => {
    const server = await serveTool((_, response, count) => {
      if (count === 1) response.writeHead(202, { location: '/j' }).end()
      else if (count === 2) response.writeHead(503).end()
      else if (count === 3) response.destroy()
      else response.writeHead(404).end('gone')
    })
    const { result, tries } = await callTool(callback(server.url), {})
    expect(result).toMatchObject({ code: 'tool.failed', retryable: false, evidence: { status: 404 } })
    expect([tries, server.seen.filter(({ method }) => method === 'POST').length]).toEqual([1, 1])
  })

  test('is given up after so many looks', async () => {
    const server = await serveTool((_, response) => response.writeHead(202, { location: '/j' }).end())
    const { result } = await callTool(callback(server.url, { maxPolls: 3 }))
    expect(result).toMatchObject({
      code: 'tool.timeout',
      reason: expect.stringContaining('after 3 looks'),
      retryable: false,
    })
    expect(server.seen.length).toBe(4)
  })

  test('that does not say where to look gave nothing of use', async () => {
    const server = await serveTool((_, response) => response.writeHead(202).end())
    expect((await callTool(callback(server.url))).result).toMatchObject({
      code: 'tool.invalid_output',
      evidence: { status: 202, lookedFor: 'header Location' },
    })
  })

  test('shows who calls to its own place alone, and is looked at only where that is allowed', async () => {
    const other = await serveTool((_, response) => sendJson(response, 'done'))
    let location = `${other.url}/j`
    const server = await serveTool((_, response) => response.writeHead(202, { location }).end())
    const auth = { type: 'bearer', token: { secret: 'api', key: 'token' } }
    const secrets = { 'api/token': 'correct-horse' }
    expect((await callTool(callback(server.url, {}, { auth }), {}, { secrets })).result).toEqual({
      ok: true,
      output: 'done',
    })
    expect(server.seen[0]?.headers.authorization).toBe('Bearer correct-horse')
    expect(other.seen[0]?.headers).not.toHaveProperty('authorization')
    location = 'http://169.254.169.254/latest'
    expect((await callTool(callback(server.url, {}, { auth }), {}, { secrets })).result).toMatchObject({
      code: 'model.address_blocked',
    })
  })
})
