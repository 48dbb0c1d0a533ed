import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { freePort } from '../../../test/support/free-port.ts'
import { createEgress } from '../egress.ts'
import { callTool } from '../testing/tool-rig.ts'
import { sendJson, serveTool } from '../testing/tool-server.ts'

const http = (block: JsonObject, more: JsonObject = {}): JsonObject => ({ type: 'http', ...more, http: block })

/** What a tool that echoes was sent. */
async function sent(block: (url: string) => JsonObject, input: JsonObject = {}, more: JsonObject = {}) {
  const server = await serveTool((_, response) => sendJson(response, { ok: 1 }))
  const { result, tries } = await callTool(http(block(server.url), more), input)
  return { result, tries, request: server.seen[0], count: server.seen.length }
}

describe('the request of an http tool', () => {
  test('posts the input, with its key and its trace', async () => {
    const { result, request } = await sent((url) => ({ url }), { city: 'Bern', days: 3 })
    expect(result).toEqual({ ok: true, output: { ok: 1 } })
    expect(request).toMatchObject({
      method: 'POST',
      url: '/',
      body: '{"city":"Bern","days":3}',
      headers: {
        'content-type': 'application/json',
        'idempotency-key': 'stp_1/call_1',
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      },
    })
  })

  test('puts each value where the template says, encoded', async () => {
    const { request } = await sent(
      (url) => ({
        url: `${url}/users/\${{ inputs.id }}/notes?sort=\${{ inputs.sort }}`,
        method: 'GET',
        query: {
          q: '${{ inputs.q }}',
          tag: '${{ inputs.tags }}',
          page: '${{ inputs.?page.orValue(null) }}',
          lang: 'de',
        },
        headers: { 'X-Team': 'team ${{ inputs.id }}', 'X-None': '${{ inputs.?page.orValue(null) }}' },
      }),
      { id: 'a/../b?x#y', q: 'ä&b=c', sort: 'up&down', tags: ['x', 1, true] },
    )
    expect(request).toMatchObject({
      method: 'GET',
      url: '/users/a%2F..%2Fb%3Fx%23y/notes?sort=up%26down&q=%C3%A4%26b%3Dc&tag=x&tag=1&tag=true&lang=de',
      body: '',
      headers: { 'x-team': 'team a/../b?x#y' },
    })
    expect(request?.headers).not.toHaveProperty('x-none')
    expect(request?.headers).not.toHaveProperty('content-type')
  })

  test.for<[what: string, block: JsonObject, type: string, body: string]>([
    [
      'as JSON',
      { body: { text: '${{ inputs.text }}', n: '${{ inputs.n }}' } },
      'application/json',
      '{"text":"a \\"b\\"","n":2}',
    ],
    [
      'as a form',
      { bodyAs: 'form', body: { t: '${{ inputs.text }}', n: ['${{ inputs.n }}', 3], no: null } },
      'application/x-www-form-urlencoded',
      't=a+%22b%22&n=2&n=3',
    ],
    ['as text', { bodyAs: 'text', body: 'say ${{ inputs.text }}' }, 'text/plain; charset=utf-8', 'say a "b"'],
    [
      'as what the manifest calls it',
      { bodyAs: 'text', body: '<a/>', headers: { 'Content-Type': 'text/xml' } },
      'text/xml',
      '<a/>',
    ],
  ])('has a body %s', async ([, block, type, body]) => {
    const { request } = await sent((url) => ({ url, method: 'PUT', ...block }), { text: 'a "b"', n: 2 })
    expect([request?.method, request?.headers['content-type'], request?.body]).toEqual(['PUT', type, body])
  })

  test.for<[what: string, input: JsonObject, reason: RegExp]>([
    ['nothing', { id: '' }, /would make "" of a part of the address/],
    ['the place above', { id: '..' }, /would make ".."/],
    ['no text', { id: { a: 1 } }, /must be a text/],
    ['half a character', { id: '\ud800' }, /half a character/],
    ['what it was not called with', {}, /inputs\.id has no value/],
    ['a line of its own in a header', { id: 'a', team: 'x\r\nX-Admin: 1' }, /characters that no header takes/],
  ])('is never made when a value is %s', async ([, input, reason]) => {
    const { result, count } = await sent(
      (url) => ({
        url: `${url}/users/\${{ inputs.id }}`,
        method: 'DELETE',
        headers: { x: '${{ inputs.?team.orValue("t") }}' },
      }),
      input,
    )
    expect(result).toMatchObject({ ok: false, code: 'tool.invalid_input', reason: expect.stringMatching(reason) })
    expect(count).toBe(0)
  })
})

/** A tool that answers so, once or always. */
async function answered(
  answer: { status?: number; headers?: Record<string, string>; body?: string | Buffer },
  block: JsonObject = {},
  more: JsonObject = {},
) {
  const server = await serveTool((_, response) =>
    response.writeHead(answer.status ?? 200, answer.headers ?? {}).end(answer.body),
  )
  return { ...(await callTool(http({ url: server.url, ...block }, more), {})), count: server.seen.length }
}

const JSON_TYPE = { 'content-type': 'application/problem+json; charset=utf-8' }

describe('the answer of an http tool', () => {
  test.for<[what: string, answer: Parameters<typeof answered>[0], block: JsonObject, output: unknown]>([
    ['JSON that says so', { headers: JSON_TYPE, body: '[1]' }, {}, [1]],
    ['text', { body: '[1]' }, {}, '[1]'],
    ['JSON that does not say so', { body: '[1]' }, { response: 'json' }, [1]],
    ['JSON that is wanted as text', { headers: JSON_TYPE, body: '[1]' }, { response: 'text' }, '[1]'],
    ['nothing', { status: 204 }, {}, null],
    [
      'another character set',
      { headers: { 'content-type': 'text/plain; charset=iso-8859-1' }, body: Buffer.from([0xe4]) },
      {},
      'ä',
    ],
    [
      'a status that is a success here',
      { status: 404, headers: JSON_TYPE, body: '{"a":1}' },
      { statuses: { '404': 'ok' } },
      { a: 1 },
    ],
    ['a class of them', { status: 451, body: 'x' }, { statuses: { '4xx': 'ok' } }, 'x'],
  ])('is read: %s', async ([, answer, block, output]) => {
    expect((await answered(answer, block)).result).toEqual({ ok: true, output })
  })

  test('is read as a whole where the manifest wants it', async () => {
    const { result } = await answered(
      { status: 404, headers: JSON_TYPE, body: '{"a":1}' },
      { response: 'whole', statuses: { '4xx': 'ok' } },
    )
    expect(result).toMatchObject({
      output: { status: 404, headers: { 'content-type': JSON_TYPE['content-type'] }, body: { a: 1 } },
    })
  })

  test.for<[what: string, answer: Parameters<typeof answered>[0], block: JsonObject, more: JsonObject, reason: RegExp]>(
    [
      ['no JSON', { headers: JSON_TYPE, body: '{' }, {}, {}, /is no JSON/],
      ['no text', { body: Buffer.from([0xff, 0xfe, 0xfd]) }, {}, {}, /is no text in utf-8/],
      [
        'in an unknown character set',
        { headers: { 'content-type': 'text/plain; charset=klingon' }, body: 'x' },
        {},
        {},
        /klingon/,
      ],
      [
        'nested without end',
        { headers: JSON_TYPE, body: '['.repeat(50_000) + ']'.repeat(50_000) },
        {},
        {},
        /nested deeper than 64/,
      ],
      ['larger than allowed', { body: 'x'.repeat(1_001) }, {}, { maxOutputBytes: 1_000 }, /larger than 1000 bytes/],
    ],
  )('is no success when it is %s', async ([, answer, block, more, reason]) => {
    const { result, tries } = await answered(answer, block, more)
    expect(result).toMatchObject({
      ok: false,
      code: 'tool.invalid_output',
      reason: expect.stringMatching(reason),
      retryable: false,
    })
    expect(tries).toBe(1)
  })

  test('of 50 MB is left as soon as it is larger than allowed', async () => {
    let written = 0
    const gone = Promise.withResolvers<void>()
    const server = await serveTool((_, response) => {
      const chunk = Buffer.alloc(1024 * 1024, 'x')
      response.on('close', () => gone.resolve())
      const write = (): void =>
        void response.write(chunk, (error) => {
          if (error || ++written === 50) response.end()
          else write()
        })
      write()
    })
    const { result } = await callTool(http({ url: server.url }), {})
    expect(result).toMatchObject({ code: 'tool.invalid_output', evidence: { maxOutputBytes: 1024 * 1024 } })
    await gone.promise
    expect(written).toBeLessThan(50)
  })

  test.for<[status: number, code: string, retryable: boolean]>([
    [400, 'tool.failed', false],
    [401, 'tool.auth_failed', false],
    [403, 'tool.auth_failed', false],
    [404, 'tool.failed', false],
    [408, 'tool.failed', true],
    [429, 'tool.failed', true],
    [500, 'tool.failed', true],
    [503, 'tool.failed', true],
  ])('of status %i is %s', async ([status, code, retryable]) => {
    const { result, tries } = await answered({ status, body: 'no such thing\nat all' })
    expect(result).toMatchObject({ ok: false, code, retryable, evidence: { status, answer: 'no such thing\nat all' } })
    expect(result).toMatchObject({ reason: expect.stringMatching(`answered ${status}: no such thing$`) })
    expect(tries).toBe(retryable ? 3 : 1)
  })

  test('is what the manifest says of a status', async () => {
    expect(await answered({ status: 404 }, { statuses: { '404': 'retry' } })).toMatchObject({ tries: 3, count: 3 })
    expect(await answered({ status: 500 }, { statuses: { '5xx': 'fail' } })).toMatchObject({ tries: 1, count: 1 })
    expect(await answered({ status: 403 }, { statuses: { '403': 'ok' } })).toMatchObject({ result: { ok: true } })
  })

  test('of a writing tool is asked for again only where nothing was done', async () => {
    const write = { operation: 'write' }
    expect((await answered({ status: 500 }, {}, write)).count).toBe(1)
    expect((await answered({ status: 429 }, {}, write)).count).toBe(3)
  })

  test('says when to come back', async () => {
    const server = await serveTool((_, response, count) =>
      count === 1 ? response.writeHead(503, { 'retry-after': '0.05' }).end() : sendJson(response, 'there'),
    )
    const { result, lines } = await callTool(http({ url: server.url }), {})
    expect(result).toEqual({ ok: true, output: 'there' })
    expect(lines[0]).toMatch(/again in 50 ms$/)
    const late = await serveTool((_, response) => response.writeHead(429, { 'retry-after': '3600' }).end())
    expect(await callTool(http({ url: late.url }), {})).toMatchObject({ tries: 1, result: { retryable: true } })
  })

  test('of nobody is a failure that passes, also of a writing tool', async () => {
    const url = `http://127.0.0.1:${await freePort()}/a?key=x`
    const { result, tries } = await callTool(http({ url }, { operation: 'write' }), { q: 1 })
    expect(result).toMatchObject({
      code: 'tool.failed',
      retryable: true,
      reason: expect.stringContaining('calling http://127.0.0.1:'),
      evidence: { error: 'ECONNREFUSED', url: expect.not.stringContaining('key') },
    })
    expect(tries).toBe(3)
  })

  test('that breaks off is asked for again of a reading tool alone', async () => {
    const broken = () => serveTool((_, response) => response.destroy())
    const one = await broken()
    expect(await callTool(http({ url: one.url }), {})).toMatchObject({
      tries: 3,
      result: { code: 'tool.failed', retryable: true },
    })
    const other = await broken()
    expect(await callTool(http({ url: other.url }, { operation: 'write' }), {})).toMatchObject({ tries: 1 })
  })

  test('that never comes ends with the time-out', async () => {
    const server = await serveTool(() => {})
    const { result } = await callTool(http({ url: server.url }, { timeout: '50ms', retry: 0 }), {})
    expect(result).toMatchObject({ code: 'tool.timeout', evidence: { timeoutMs: 50 } })
  })
})

describe('what an http tool may call', () => {
  test('is no private address unless the manifest allows it', async () => {
    const server = await serveTool((_, response) => sendJson(response, 1))
    const { result } = await callTool(http({ url: server.url }, { allowPrivateAddresses: false }), {})
    expect(result).toMatchObject({
      ok: false,
      code: 'model.address_blocked',
      reason: expect.stringMatching(/is loopback or private.*allowPrivateAddresses: true of the tool/),
      retryable: false,
    })
    expect(server.seen).toEqual([])
  })

  test.for(['http://169.254.169.254/latest/meta-data', 'http://[fd00:ec2::254]/', 'http://metadata.test/'])(
    'is never %s',
    async (url) => {
      const egress = createEgress((_, done) => done(null, [{ address: '169.254.169.254', family: 4 }]))
      const { result } = await callTool(http({ url }), {}, { env: { egress } })
      expect(result).toMatchObject({
        code: 'model.address_blocked',
        evidence: { why: expect.stringContaining('metadata') },
      })
    },
  )

  test('is looked at again when it is led on, and what shows who calls stays behind', async () => {
    const target = await serveTool((_, response) => sendJson(response, 'there'))
    const server = await serveTool((seen, response) =>
      response.writeHead(302, { location: seen.url === '/bad' ? 'http://169.254.169.254/' : `${target.url}/` }).end(),
    )
    const auth = { type: 'header', name: 'X-Our-Key', value: { secret: 'api', key: 'key' } }
    const spec = (path: string) => http({ url: `${server.url}${path}`, method: 'GET' }, { auth })
    const secrets = { 'api/key': 'correct-horse' }
    expect((await callTool(spec('/good'), {}, { secrets })).result).toEqual({ ok: true, output: 'there' })
    expect(server.seen[0]?.headers['x-our-key']).toBe('correct-horse')
    expect(target.seen[0]?.headers).not.toHaveProperty('x-our-key')
    expect((await callTool(spec('/bad'), {}, { secrets })).result).toMatchObject({ code: 'model.address_blocked' })
  })

  test('is not led on when it was sent something', async () => {
    const server = await serveTool((_, response) => response.writeHead(302, { location: '/other' }).end())
    const { result } = await callTool(http({ url: server.url }, { operation: 'write' }), {})
    expect(result).toMatchObject({ code: 'tool.failed', evidence: { status: 302 } })
    expect(server.seen.length).toBe(1)
  })
})
