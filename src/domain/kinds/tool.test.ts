import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { readResources } from './documents.ts'
import { isolationOf, isRepeatable, readTool, secretsOfTool } from './tool.ts'

const problemsOf = (spec: JsonObject): string[] =>
  readResources(
    [
      {
        text: JSON.stringify({
          apiVersion: 'orrery.dev/v1',
          kind: 'Tool',
          metadata: { name: 'it' },
          spec: { description: 'It.', ...spec },
        }),
        file: 'm.json',
      },
    ],
    null,
  ).problems.map(({ path, message, line, nearest }) =>
    line === 1 ? `${path} ${message}${nearest ? ` (${nearest}?)` : ''}` : 'no place',
  )

const url = 'https://api.example/v1'
const ref = { secret: 's', key: 'k' }
const http = (block: JsonObject, more: JsonObject = {}): JsonObject => ({
  type: 'http',
  ...more,
  http: { url, ...block },
})
const command = (block: JsonObject, more: JsonObject = {}): JsonObject => ({
  type: 'command',
  ...more,
  command: { argv: ['date'], ...block },
})
const CLOSED = { type: 'object', properties: { city: { type: 'string' } }, additionalProperties: false }

describe('a Tool', () => {
  test.for<[what: string, spec: JsonObject]>([
    ['http', http({ url: `${url}/\${{ inputs.city }}?q=\${{ inputs.q }}`, method: 'GET' })],
    ['external', { type: 'external', external: { url: 'http://[::1]:8080/call' } }],
    ['callback', { type: 'callback', callback: { url } }],
    [
      'grpc',
      { type: 'grpc', grpc: { target: '[::1]:50051', proto: 'syntax = "proto3";', service: 'a.B', method: 'C' } },
    ],
    ['command', command({ argv: ['./tool.sh', '--city', '${{ inputs.city }}'] })],
    ['wasm', { type: 'wasm', wasm: { module: 'tools/it.wasm' } }],
    ['mcp', { type: 'mcp', mcp: { server: 'files', tool: 'read_file' } }],
    ['agent', { type: 'agent', agent: 'writer' }],
    ['workflow', { type: 'workflow', workflow: 'team/report@3' }],
  ])('of type %s is taken', async ([, spec]) => expect(problemsOf(spec)).toEqual([]))

  test.for<[what: string, spec: JsonObject, problem: RegExp]>([
    ['an unknown type', { type: 'htp' }, /^spec\.type must be one of http, .* \(http\?\)$/],
    ['no description', { type: 'agent', agent: 'a', description: '' }, /^spec\.description/],
    ['a type without its block', { type: 'http' }, /^spec\.http is required for the type http$/],
    ['a delegating one without a name', { type: 'agent' }, /^spec\.agent is required/],
    [
      'a block of another type',
      http({}, { command: { argv: ['x'] } }),
      /^spec\.command is for the type command; this one is http$/,
    ],
    ['an unknown key of a block', http({ mehtod: 'GET' }), /^spec\.http\.mehtod .* \(method\?\)$/],
    [
      'a schema that is none',
      http({}, { inputSchema: { type: 'object', properties: { a: { type: 'objekt' } } } }),
      /^spec\.inputSchema\.properties\.a\.type must be/,
    ],
    ['a schema of no object', http({}, { inputSchema: { type: 'string' } }), /^spec\.inputSchema\.type must be object/],
    [
      'an output schema with an unknown keyword',
      http({}, { outputSchema: { typ: 'object' } }),
      /^spec\.outputSchema\.typ .*unknown keyword/,
    ],
    [
      'a schema that is fetched',
      http({}, { outputSchema: { $ref: 'https://x.example/s' } }),
      /^spec\.outputSchema\.\$ref refers to/,
    ],
    ['a time-out of nothing', http({}, { timeout: '0s' }), /^spec\.timeout must be longer/],
    ['too large an output', http({}, { maxOutputBytes: 1e9 }), /^spec\.maxOutputBytes/],
    [
      'credentials for what is not called over a network',
      command({}, { auth: { type: 'bearer', token: ref } }),
      /^spec\.auth is for http, external, callback, grpc; this one is command$/,
    ],
    [
      'private addresses for a command',
      command({}, { allowPrivateAddresses: true }),
      /^spec\.allowPrivateAddresses is for http/,
    ],
    ['a bearer without a token', http({}, { auth: { type: 'bearer' } }), /^spec\.auth\.token is required for bearer$/],
    ['a header without a name', http({}, { auth: { type: 'header', value: ref } }), /^spec\.auth\.name is required/],
    [
      'basic without a password',
      http({}, { auth: { type: 'basic', username: 'u' } }),
      /^spec\.auth\.password is required/,
    ],
    [
      'oauth2 without a place',
      http({}, { auth: { type: 'oauth2', clientId: 'c', clientSecret: ref } }),
      /^spec\.auth\.tokenUrl is required/,
    ],
    [
      'oauth2 fields of a bearer',
      http({}, { auth: { type: 'bearer', token: ref, scopes: ['a'] } }),
      /^spec\.auth\.scopes has no meaning for bearer$/,
    ],
    ['a token that stands in the manifest', http({}, { auth: { type: 'bearer', token: 'abc' } }), /^spec\.auth\.token/],
    [
      'a container',
      command({}, { isolation: 'container' }),
      /^spec\.isolation is not to be had yet: no worker runs tools in containers; use sandbox$/,
    ],
    ['a sandboxed request', http({}, { isolation: 'sandbox' }), /^spec\.isolation must be none for the type http$/],
    ['a command as wasm', command({}, { isolation: 'wasm' }), /^spec\.isolation must be none or sandbox for/],
    [
      'wasm on the host',
      { type: 'wasm', isolation: 'none', wasm: { module: 'a' } },
      /^spec\.isolation must be wasm or sandbox/,
    ],
    ['an address of a call', http({ url: '${{ inputs.url }}' }), /^spec\.http\.url must be an address such as/],
    ['a host of a call', http({ url: 'https://${{ inputs.host }}/x' }), /^spec\.http\.url must be an address/],
    [
      'a host that a call ends',
      http({ url: 'https://api.example${{ inputs.host }}/x' }),
      /^spec\.http\.url must be an address/,
    ],
    [
      'an address with a password',
      { type: 'external', external: { url: 'https://me:pw@api.example/' } },
      /^spec\.external\.url must be/,
    ],
    [
      'an address of files',
      { type: 'callback', callback: { url: 'file:///etc/passwd' } },
      /^spec\.callback\.url must be/,
    ],
    ['a body of a GET', http({ method: 'GET', body: {} }), /^spec\.http\.body has no place in a GET$/],
    ['how a body of a GET is written', http({ method: 'GET', bodyAs: 'form' }), /^spec\.http\.bodyAs has no meaning/],
    ['a form that is no map', http({ bodyAs: 'form', body: [] }), /^spec\.http\.body must be a map/],
    ['a text that is none', http({ bodyAs: 'text' }), /^spec\.http\.body must be a text/],
    ['a status that is none', http({ statuses: { 4: 'ok' } }), /^spec\.http\.statuses.*must be a status such as 404/],
    [
      'a template that is not closed',
      http({ body: { a: ['${{ inputs.x'] } }),
      /^spec\.http\.body\.a\[0\] has a \$\{\{ that is not closed$/,
    ],
    ['a template that is no expression', http({ query: { a: '${{ inputs. }}' } }), /^spec\.http\.query\.a /],
    [
      'a template of what a tool does not know',
      command({ env: { A: '${{ steps.a.output }}' } }),
      /^spec\.command\.env\.A reads steps; a tool knows only inputs/,
    ],
    [
      'a template of what there never is',
      http({ headers: { x: '${{ inputs.cty }}' } }, { inputSchema: CLOSED }),
      /^spec\.http\.headers\.x reads inputs\.cty, which is not in inputSchema \(city\?\)$/,
    ],
    [
      'a program of a call',
      command({ argv: ['${{ inputs.program }}'] }),
      /^spec\.command\.argv\[0\] must be a program/,
    ],
    [
      'a program elsewhere',
      command({ argv: ['tools/x'] }),
      /^spec\.command\.argv\[0\] must be a name, an absolute path, or/,
    ],
    ['a program above', command({ argv: ['./../x'] }), /^spec\.command\.argv\[0\] must be a name/],
    ['a variable that is none', command({ env: { 'A-B': 'x' } }), /^spec\.command\.env/],
    [
      'a module elsewhere',
      { type: 'wasm', wasm: { module: '/etc/passwd' } },
      /^spec\.wasm\.module must be a path below/,
    ],
    ['a module above', { type: 'wasm', wasm: { module: 'a/../../b' } }, /^spec\.wasm\.module must be a path below/],
    [
      'a target without a port',
      { type: 'grpc', grpc: { target: 'tools.example', proto: 'x', service: 'a', method: 'b' } },
      /^spec\.grpc\.target must be HOST:PORT/,
    ],
  ])('with %s is refused', async ([, spec, problem]) => {
    const found = problemsOf(spec)
    expect(found).toContainEqual(expect.stringMatching(problem))
    expect(found.length).toBe(1)
  })

  test('is isolated by its type where it does not say otherwise', () => {
    const of = (spec: JsonObject) => isolationOf(readTool({ description: 'It.', ...spec }))
    expect([of(command({})), of({ type: 'wasm', wasm: { module: 'a' } }), of(http({}))]).toEqual([
      'sandbox',
      'wasm',
      'none',
    ])
    expect(of(command({}, { isolation: 'none' }))).toBe('none')
  })

  test('is repeatable when it only reads, or says so', () => {
    const of = (more: JsonObject) => isRepeatable(readTool({ description: 'It.', ...http({}, more) }))
    expect(
      [{}, { operation: 'write' }, { operation: 'write', repeatable: true }, { repeatable: false }].map(of),
    ).toEqual([true, false, true, false])
  })

  test('names the secrets that its calls may ask for, each once', () => {
    const of = (spec: JsonObject) =>
      secretsOfTool(readTool({ description: 'It.', ...spec })).map(({ secret, key }) => `${secret}/${key}`)
    const other = { secret: 'o', key: 'k' }
    expect(of(http({}, { auth: { type: 'oauth2', tokenUrl: url, clientId: other, clientSecret: ref } }))).toEqual([
      'o/k',
      's/k',
    ])
    expect(of(http({}, { auth: { type: 'basic', username: 'me', password: ref } }))).toEqual(['s/k'])
    expect(of(command({ env: { A: ref, B: ref, C: 'text' } }))).toEqual(['s/k'])
    expect(of(http({}))).toEqual([])
  })
})
