import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readResources } from './documents.ts'
import { fitsPattern, isOffered, readMcpServer, secretsOfMcpServer, traitsOf } from './mcp-server.ts'

const ref = { secret: 's', key: 'k' }
const problemsOf = (spec: JsonObject) =>
  readResources(
    [
      {
        text: JSON.stringify({ apiVersion: 'orrery.dev/v1', kind: 'McpServer', metadata: { name: 'it' }, spec }),
        file: 'm.json',
      },
    ],
    null,
  ).problems.map(({ path, message, line }) => (line === 1 ? `${path} ${message}` : 'no place'))

const stdio = { command: 'npx' }
const http = { url: 'https://tools.example/mcp' }
const oauth = { type: 'oauth', clientId: 'me', issuer: 'https://login.example' }

describe('an McpServer', () => {
  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['a program that is not named', { transport: 'stdio' }, /^spec\.stdio is required for stdio/],
    ['an address that is not named', { transport: 'http' }, /^spec\.http is required for http/],
    [
      'what is for the other',
      { transport: 'stdio', stdio, http },
      /^spec\.http is for the transport http; this one is stdio/,
    ],
    ['an unknown transport', { transport: 'sse' }, /^spec\.transport must be one of stdio, http/],
    ['an unknown key', { transport: 'stdio', stdio: { ...stdio, comand: 'x' } }, /^spec\.stdio\.comand/],
    [
      'a number as a variable',
      { transport: 'stdio', stdio: { ...stdio, env: { A: 1 } } },
      /^spec\.stdio\.env\.A must be a string or/,
    ],
    [
      'a relative directory',
      { transport: 'stdio', stdio: { ...stdio, workdir: 'here' } },
      /^spec\.stdio\.workdir must be an absolute path/,
    ],
    [
      'a directory in a sandbox',
      { transport: 'stdio', stdio: { ...stdio, workdir: '/srv', isolation: 'sandbox' } },
      /^spec\.stdio\.workdir is not seen in a sandbox/,
    ],
    [
      'an isolation that there is not',
      { transport: 'stdio', stdio: { ...stdio, isolation: 'container' } },
      /^spec\.stdio\.isolation must be one of none, sandbox/,
    ],
    [
      'a password in the address',
      { transport: 'http', http: { url: 'https://a:b@x.test' } },
      /^spec\.http\.url must have no user/,
    ],
    ['a file', { transport: 'http', http: { url: 'file:///etc/passwd' } }, /^spec\.http\.url must be an address/],
    [
      "a header of the protocol's own",
      { transport: 'http', http: { ...http, headers: { 'Mcp-Session-Id': 'x' } } },
      /^spec\.http\.headers.* belongs to the protocol itself/,
    ],
    [
      'a header twice',
      { transport: 'http', http: { ...http, headers: { authorization: 'x' }, auth: { type: 'bearer', token: ref } } },
      /^spec\.http\.auth sends Authorization, and so does http\.headers/,
    ],
    [
      'an own header as auth',
      { transport: 'http', http: { ...http, auth: { type: 'header', name: 'host', value: ref } } },
      /^spec\.http\.auth\.name belongs to the protocol itself/,
    ],
    [
      'oauth without a secret',
      { transport: 'http', http: { ...http, auth: oauth } },
      /^spec\.http\.auth\.clientSecret is required, or privateKey/,
    ],
    [
      'oauth with two',
      { transport: 'http', http: { ...http, auth: { ...oauth, clientSecret: ref, privateKey: ref } } },
      /^spec\.http\.auth\.privateKey stands beside clientSecret/,
    ],
    [
      'an algorithm of nothing',
      { transport: 'http', http: { ...http, auth: { ...oauth, clientSecret: ref, algorithm: 'ES256' } } },
      /^spec\.http\.auth\.algorithm is for privateKey/,
    ],
    [
      'oauth whose issuer is anybody',
      { transport: 'http', http: { ...http, auth: { type: 'oauth', clientId: 'me', clientSecret: ref } } },
      /^spec\.http\.auth\.issuer/,
    ],
    [
      'an override of nothing',
      { transport: 'stdio', stdio, tools: { overrides: [{ match: 'x' }] } },
      /^spec\.tools\.overrides\[0\] says nothing/,
    ],
    [
      'an unknown revision',
      { transport: 'stdio', stdio, protocol: '2024-11-05' },
      /^spec\.protocol must be one of auto/,
    ],
  ])('%s is refused, with its place', ([, spec, problem]) => {
    expect(problemsOf(spec)).toEqual([expect.stringMatching(problem)])
  })

  test('with defaults', () => {
    expect(readMcpServer({ transport: 'stdio', stdio })).toMatchObject({
      protocol: 'auto',
      optional: false,
      idleStop: 300_000,
      tools: { operation: 'write' },
      timeouts: { connect: 30_000, call: 60_000 },
      reconnect: { max: 3 },
    })
  })

  test('names its secrets, by where', () => {
    const program = readMcpServer({ transport: 'stdio', stdio: { ...stdio, env: { A: 'plain', B: ref } } })
    expect(secretsOfMcpServer(program)).toEqual([{ use: 'stdio.env.B', ref }])
    const auths: [JsonObject, string][] = [
      [{ type: 'bearer', token: ref }, 'token'],
      [{ type: 'header', name: 'X-Key', value: ref }, 'value'],
      [{ ...oauth, clientSecret: ref }, 'clientSecret'],
      [{ ...oauth, privateKey: ref }, 'privateKey'],
    ]
    for (const [auth, use] of auths)
      expect(
        secretsOfMcpServer(readMcpServer({ transport: 'http', http: { ...http, headers: { A: ref }, auth } })),
      ).toEqual([
        { use: 'http.headers.A', ref },
        { use: `http.auth.${use}`, ref },
      ])
  })
})

describe('patterns of tools', () => {
  test.for<[name: string, pattern: string, fits: boolean]>([
    ['echo', 'echo', true],
    ['echo', 'ech', false],
    ['echo', '*', true],
    ['echo', 'e*', true],
    ['echo', '*o', true],
    ['echo', 'e*o', true],
    ['eo', 'e*o', true],
    ['o', 'o*o', false],
    ['a.b.c', 'a*b*c', true],
    ['abab', '*ab', true],
    ['a+b', 'a+b', true],
    ['aab', 'a+b', false],
    ['xaxbx', '*a*b*', true],
    ['xbxax', '*a*b*', false],
    ['ab', 'a**b', true],
  ])('%s and %s: %s', ([name, pattern, fits]) => {
    expect(fitsPattern(name, pattern)).toBe(fits)
  })

  test('what is excluded is out, even when it is included', () => {
    const tools = { operation: 'write' as const, include: ['get_*'], exclude: ['get_secret*'] }
    expect(['get_a', 'get_secrets', 'put_a'].map((name) => isOffered(name, tools))).toEqual([true, false, false])
  })
})

describe('what is held of a tool', () => {
  const held = (name: string, hints: object, tools: JsonObject = {}) =>
    traitsOf(name, hints, readMcpServer({ transport: 'stdio', stdio, tools }))

  test('without a word it writes and is not repeated', () => {
    expect(held('x', {})).toEqual({ operation: 'write', repeatable: false, timeoutMs: 60_000 })
  })

  test('a hint tightens and never loosens', () => {
    expect(held('x', { readOnlyHint: true, idempotentHint: true })).toMatchObject({
      operation: 'write',
      repeatable: false,
    })
    expect(held('x', { destructiveHint: true })).toMatchObject({ operation: 'delete' })
    expect(held('x', { destructiveHint: true }, { operation: 'admin' })).toMatchObject({ operation: 'admin' })
    expect(held('x', { destructiveHint: true }, { operation: 'read' })).toMatchObject({
      operation: 'delete',
      repeatable: false,
    })
  })

  test('of overrides the first that fits and says it counts, for each', () => {
    const overrides = [
      { match: 'get_*', operation: 'read' },
      { match: '*', operation: 'admin', repeatable: false, timeout: '5s' },
    ]
    expect(held('get_x', { destructiveHint: true }, { overrides })).toEqual({
      operation: 'read',
      repeatable: false,
      timeoutMs: 5_000,
    })
    expect(held('x', {}, { overrides })).toMatchObject({ operation: 'admin' })
    expect(held('get_x', {}, { overrides: overrides.slice(0, 1) })).toMatchObject({ repeatable: true })
  })
})
