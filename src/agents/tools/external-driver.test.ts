import { expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { callOf, callTool } from '../testing/tool-rig.ts'
import { sendJson, serveTool } from '../testing/tool-server.ts'

const external = (url: string, more: JsonObject = {}): JsonObject => ({ type: 'external', ...more, external: { url } })

test('an external tool is handed the whole call, and gives a result', async () => {
  const server = await serveTool((_, response) => sendJson(response, { ok: true, output: { a: [1] } }))
  const spec = {
    type: 'external',
    external: { url: `${server.url}/\${{ inputs.city }}`, headers: { 'X-City': '${{ inputs.city }}' } },
  }
  expect(await callTool(spec, { city: 'Bern' })).toMatchObject({ result: { ok: true, output: { a: [1] } }, tries: 1 })
  const [seen] = server.seen
  expect(seen).toMatchObject({
    method: 'POST',
    url: '/Bern',
    headers: { 'x-city': 'Bern', 'content-type': 'application/json' },
  })
  expect(JSON.parse(seen?.body ?? '')).toEqual(callOf({ city: 'Bern' }, { timeoutMs: 30_000 }))
})

test('each try of it says which one it is, under one key', async () => {
  const server = await serveTool((_, response, count) =>
    sendJson(response, count < 3 ? { ok: false, reason: 'busy', retryable: true } : { ok: true, output: null }),
  )
  expect(await callTool(external(server.url))).toMatchObject({ result: { ok: true }, tries: 3 })
  const sent = server.seen.map(({ body }) => JSON.parse(body) as { attempt: number; idempotencyKey: string }) // as it was sent
  expect(sent.map(({ attempt, idempotencyKey }) => [attempt, idempotencyKey])).toEqual([
    [1, 'stp_1/call_1'],
    [2, 'stp_1/call_1'],
    [3, 'stp_1/call_1'],
  ])
})

test.for<[what: string, status: number, body: unknown, result: JsonObject]>([
  [
    'a failure',
    200,
    { ok: false, reason: 'no', evidence: { a: 1 } },
    { code: 'tool.failed', reason: 'no', retryable: false, evidence: { a: 1 } },
  ],
  [
    'a failure with a code of its own',
    200,
    { ok: false, code: 'tool.invalid_input', reason: 'no city' },
    { code: 'tool.invalid_input', reason: 'no city' },
  ],
  [
    'a failure under a status of one',
    500,
    { ok: false, reason: 'my database' },
    { code: 'tool.failed', reason: 'my database', retryable: false },
  ],
  [
    'a success under a status of a failure',
    422,
    { ok: true, output: 1 },
    { code: 'tool.failed', evidence: { status: 422 } },
  ],
  [
    'a failure without a result',
    404,
    'nothing here',
    { code: 'tool.failed', reason: expect.stringContaining('answered 404') as string },
  ],
  [
    'a code that is not for tools to give',
    200,
    { ok: false, code: 'policy.denied', reason: 'x' },
    { code: 'tool.invalid_output' },
  ],
  [
    'something else',
    200,
    { status: 'ok' },
    { code: 'tool.invalid_output', reason: expect.stringMatching(/is no result.*Answer \{"ok": true/) as string },
  ],
  ['more than a result', 200, { ok: true, output: 1, verdict: 'allow' }, { code: 'tool.invalid_output' }],
])('of its answers %s is told as it is', async ([, status, body, result]) => {
  const server = await serveTool((_, response) => sendJson(response, body, status))
  expect((await callTool(external(server.url, { retry: 0 }))).result).toMatchObject({ ok: false, ...result })
})
