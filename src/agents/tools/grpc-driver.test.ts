import {
  type Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
  status,
} from '@grpc/grpc-js'
import protobuf from 'protobufjs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { freePort } from '../../../test/support/free-port.ts'
import { systemClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { createEgress } from '../egress.ts'
import { callTool } from '../testing/tool-rig.ts'
import { sendJson, serveTool } from '../testing/tool-server.ts'

const PROTO = `
syntax = "proto3";
package acme.v1;
import "google/protobuf/struct.proto";
enum Color { RED = 0; GREEN = 1; }
message Item { string name = 1; int64 size = 2; }
message Query {
  string city = 1; int32 days = 2; bool exact = 3; Color color = 4; repeated Item items = 5; map<string, string> tags = 6;
  bytes raw = 7; google.protobuf.Struct extra = 8; double share = 9;
}
message Answer { string text = 1; int64 count = 2; Color color = 3; repeated string names = 4; bytes raw = 5; }
service Search {
  rpc Find (Query) returns (Answer);
  rpc Watch (Query) returns (stream Answer);
}`
const root = protobuf.parse(PROTO, new protobuf.Root(), { keepCase: true }).root
const struct = protobuf.common.get('google/protobuf/struct.proto')
root.addJSON(struct?.nested ?? {})
const [Query, Answer] = [root.lookupType('acme.v1.Query'), root.lookupType('acme.v1.Answer')]

type Asked = { request: Record<string, unknown>; metadata: Metadata; host: string; canceled: Promise<void> }
type Handle = (
  asked: Asked,
  answer: (value: JsonObject) => void,
  refuse: (code: status, details: string) => void,
) => void

/** A real server of the service above; gives its target and what it was asked. */
async function serve(handle: Handle) {
  const seen: Asked[] = []
  const server = new Server()
  const find = (call: ServerUnaryCall<Record<string, unknown>, JsonObject>, done: sendUnaryData<JsonObject>): void => {
    const canceled = new Promise<void>((told) => call.once('cancelled', () => told()))
    const asked = { request: call.request, metadata: call.metadata, host: call.getHost(), canceled }
    seen.push(asked)
    handle(
      asked,
      (value) => done(null, value),
      (code, details) => done({ code, details, name: 'refused', message: details }),
    )
  }
  server.addService(
    {
      Find: {
        path: '/acme.v1.Search/Find',
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: JsonObject) => Buffer.from(Query.encode(Query.fromObject(value)).finish()),
        requestDeserialize: (bytes: Buffer) => Query.toObject(Query.decode(bytes), { longs: String }),
        responseSerialize: (value: JsonObject) => Buffer.from(Answer.encode(Answer.fromObject(value)).finish()),
        responseDeserialize: (bytes: Buffer) => Answer.decode(bytes),
      },
    },
    { Find: find },
  )
  const port = await new Promise<number>((done, fail) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? fail(error) : done(bound),
    ),
  )
  onTestFinished(() => server.forceShutdown())
  return { target: `127.0.0.1:${port}`, port, seen }
}

const tool = (target: string, block: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  type: 'grpc',
  ...more,
  grpc: { target, proto: PROTO, service: 'acme.v1.Search', method: 'Find', tls: false, ...block },
})

describe('a grpc tool', () => {
  test('whose time is over before it is connected is told so, also when the clock of the host was set meanwhile', async () => {
    const { target, seen } = await serve((_, answer) => answer({}))
    const clock = { ...systemClock, now: () => systemClock.now() - 3_600_000 }
    const { result } = await callTool(tool(target, {}, { retry: 0 }), {}, { env: { clock } })
    expect(result).toMatchObject({ ok: false, code: 'tool.timeout', reason: expect.stringContaining(target) })
    expect(seen).toEqual([])
  })

  test('tells its service when nobody waits for the answer any more', async () => {
    const asked = Promise.withResolvers<Asked>()
    const { target } = await serve((one) => asked.resolve(one))
    const ending = new AbortController()
    const called = callTool(tool(target), {}, { env: { signal: ending.signal } })
    const { canceled } = await asked.promise
    ending.abort(new Error('told to stop'))
    await expect(called).rejects.toThrow('told to stop')
    await canceled
  })

  test('sends the input as a message, with its key and its trace, and gives the answer as JSON', async () => {
    const { target, seen } = await serve((_, answer) =>
      answer({ text: 'ü', count: '9007199254740993', color: 1, names: ['a'], raw: 'AQI=' }),
    )
    const input = {
      city: 'Bern',
      days: 3,
      exact: true,
      color: 'GREEN',
      items: [{ name: 'x', size: '9007199254740993' }],
      tags: { a: 'b' },
      raw: 'AQI=',
      share: 0.5,
    }
    const { result, tries } = await callTool(tool(target), input)
    expect({ result, tries }).toEqual({
      result: { ok: true, output: { text: 'ü', count: '9007199254740993', color: 'GREEN', names: ['a'], raw: 'AQI=' } },
      tries: 1,
    })
    expect(seen[0]?.request).toMatchObject({ ...input, color: 1, raw: Buffer.from([1, 2]) })
    expect(seen[0]?.metadata.get('idempotency-key')).toEqual(['stp_1/call_1'])
    expect(seen[0]?.metadata.get('traceparent')).toHaveLength(1)
  })

  test('sends what the manifest makes of the input', async () => {
    const { target, seen } = await serve((_, answer) => answer({}))
    const block = {
      request: { city: '${{ inputs.place.name }}', days: 1 },
      metadata: { 'X-Team': '${{ inputs.team }}' },
    }
    const { result } = await callTool(tool(target, block), { place: { name: 'Bern' }, team: 'a' })
    expect(result).toEqual({ ok: true, output: { text: '', count: '0', color: 'RED', names: [], raw: '' } })
    expect(seen[0]?.request).toEqual({ city: 'Bern', days: 1 })
    expect(seen[0]?.metadata.get('x-team')).toEqual(['a'])
  })

  test.for<[what: string, input: JsonObject, reason: RegExp]>([
    ['an unknown field', { cty: 'x' }, /request\.cty is no field of Query; it has city, days/],
    ['a text for a number', { days: '3' }, /request\.days must be a number: int32/],
    ['half a number', { days: 1.5 }, /request\.days must be a number/],
    ['a number for a text', { city: 3 }, /request\.city must be a text/],
    ['a text for a truth', { exact: 'yes' }, /request\.exact must be true or false/],
    ['an unknown color', { color: 'BLUE' }, /request\.color must be one of RED, GREEN/],
    ['one for a list', { items: {} }, /request\.items must be a list/],
    ['a list for a map', { tags: [] }, /request\.tags must be a map/],
    ['an unknown field deeper', { items: [{ nme: 'x' }] }, /request\.items\.nme is no field of Item/],
  ])('refuses %s, which the library would leave out', async ([, input, reason]) => {
    const { target, seen } = await serve((_, answer) => answer({}))
    expect((await callTool(tool(target), input)).result).toMatchObject({
      code: 'tool.invalid_input',
      reason: expect.stringMatching(reason),
    })
    expect(seen).toEqual([])
  })

  test.for<[what: string, block: JsonObject, reason: RegExp]>([
    ['a text that is no proto', { proto: 'message {' }, /reading grpc\.proto/],
    ['an import of what is not there', { proto: 'syntax = "proto3"; import "other.proto";' }, /imports other\.proto/],
    ['another service', { service: 'acme.v1.Sarch' }, /no service acme\.v1\.Sarch/],
    ['another method', { method: 'Fnd' }, /has no method Fnd; it has Find, Watch/],
    ['a method that streams', { method: 'Watch' }, /streams/],
  ])('with %s is none', async ([, block, reason]) => {
    expect((await callTool(tool('127.0.0.1:1', block))).result).toMatchObject({
      code: 'tool.runtime_invalid',
      reason: expect.stringMatching(reason),
      retryable: false,
    })
  })

  test.for<[code: status, told: string, retryable: boolean]>([
    [status.INVALID_ARGUMENT, 'tool.failed', false],
    [status.NOT_FOUND, 'tool.failed', false],
    [status.PERMISSION_DENIED, 'tool.auth_failed', false],
    [status.UNAUTHENTICATED, 'tool.auth_failed', false],
    [status.UNAVAILABLE, 'tool.failed', true],
    [status.RESOURCE_EXHAUSTED, 'tool.failed', true],
    [status.INTERNAL, 'tool.failed', false],
  ])('that answers with status %i has failed', async ([code, told, retryable]) => {
    const { target, seen } = await serve((_, __, refuse) => refuse(code, 'because'))
    const { result, tries } = await callTool(tool(target))
    expect(result).toMatchObject({
      ok: false,
      code: told,
      retryable,
      evidence: { status: status[code], details: 'because' },
    })
    expect([tries, seen.length]).toEqual(retryable ? [3, 3] : [1, 1])
  })

  test('that never answers ends with the time-out', async () => {
    const { target } = await serve(() => {})
    expect((await callTool(tool(target, {}, { timeout: '200ms', retry: 0 }))).result).toMatchObject({
      code: 'tool.timeout',
    })
  })

  test('whose answer is larger than allowed is not read', async () => {
    const { target } = await serve((_, answer) => answer({ text: 'x'.repeat(100_000) }))
    expect(await callTool(tool(target, {}, { maxOutputBytes: 10_000 }))).toMatchObject({
      result: { code: 'tool.invalid_output', evidence: { maxOutputBytes: 10_000 } },
      tries: 1,
    })
  })

  test('of nobody is a failure that passes, also of a writing tool', async () => {
    const { result, tries } = await callTool(tool(`127.0.0.1:${await freePort()}`, {}, { operation: 'write' }))
    expect([result, tries]).toMatchObject([
      { code: 'tool.failed', retryable: true, reason: expect.stringContaining('could not be reached') },
      3,
    ])
  })

  test('speaks TLS unless the manifest says otherwise', async () => {
    const { target, seen } = await serve((_, answer) => answer({}))
    expect((await callTool(tool(target, { tls: true }, { retry: 0 }))).result).toMatchObject({ code: 'tool.failed' })
    expect(seen).toEqual([])
  })

  test('shows who calls, with a token that is borrowed anew when it was refused', async () => {
    let tokens = 0
    const login = await serveTool((_, response) => sendJson(response, { access_token: `token-number-${++tokens}` }))
    const { target, seen } = await serve(({ metadata }, answer, refuse) =>
      metadata.get('authorization')[0] === 'Bearer token-number-2'
        ? answer({ text: 'token-number-2' })
        : refuse(status.UNAUTHENTICATED, 'no'),
    )
    const ref = (key: string) => ({ secret: 'api', key })
    const auth = { type: 'oauth2', tokenUrl: login.url, clientId: ref('id'), clientSecret: ref('secret') }
    const given = { secrets: { 'api/id': 'client', 'api/secret': 'correct-horse' } }
    expect((await callTool(tool(target, {}, { auth }), {}, given)).result).toMatchObject({
      output: { text: '[secret]' },
    })
    expect(seen.length).toBe(2)
  })

  test('is connected to the address that was looked at, under its own name', async () => {
    const { port, seen } = await serve((_, answer) => answer({}))
    let looks = 0
    const egress = createEgress((_, done) =>
      done(null, [{ address: looks++ === 0 ? '127.0.0.1' : '169.254.169.254', family: 4 }]),
    )
    expect((await callTool(tool(`tools.test:${port}`), {}, { env: { egress } })).result.ok).toBe(true)
    expect([seen[0]?.host, looks]).toEqual([`tools.test:${port}`, 1])
    expect((await callTool(tool(`tools.test:${port}`), {}, { env: { egress } })).result).toMatchObject({
      code: 'model.address_blocked',
    })
    expect((await callTool(tool(`127.0.0.1:${port}`, {}, { allowPrivateAddresses: false }))).result).toMatchObject({
      code: 'model.address_blocked',
      reason: expect.stringContaining('allowPrivateAddresses'),
    })
    expect(seen.length).toBe(1)
  })
})
