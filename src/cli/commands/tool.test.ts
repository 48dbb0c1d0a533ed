import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall, status } from '@grpc/grpc-js'
import protobuf from 'protobufjs'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import { freePort } from '../../../test/support/free-port.ts'
import { whyNoSandbox } from '../../agents/testing/sandbox-here.ts'
import { systemClock } from '../../base/index.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { scaffoldTool, TOOL_SCAFFOLDS, type ToolScaffold } from '../tool-scaffolds.ts'

const noSandbox = whyNoSandbox()
const made: string[] = []
afterEach(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true })
})

/** A directory with files in it, which the command sees as well. */
function world(files: Record<string, string | Uint8Array>): { cli: CliHarness; dir: string } {
  const dir = mkdtempSync(path.join(tmpdir(), 'orrery-kit-'))
  made.push(dir)
  const cli = new CliHarness()
  // Programs that are started beside take their time.
  Object.assign(cli.clock, { sleep: systemClock.sleep, now: systemClock.now, monotonic: systemClock.monotonic })
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
    writeFileSync(path.join(dir, name), text)
    cli.files[path.join(dir, name)] = Buffer.from(text).toString('utf8')
  }
  return { cli, dir }
}

const manifest = (spec: string): string =>
  `apiVersion: orrery.dev/v1\nkind: Tool\nmetadata: { name: it }\nspec: { description: It., ${spec} }\n`
const ECHO = manifest('type: command, isolation: none, command: { argv: [cat], output: json }')

describe('tool test that is left', () => {
  test.for<[what: string, files: (at: string) => Record<string, string>]>([
    [
      'the tool',
      (at) => ({
        'tool.yaml': manifest(
          `type: command, isolation: none, command: { argv: [sh, -c, 'echo $$ > ${at}.new; mv ${at}.new ${at}; exec sleep 600'] }`,
        ),
        'fixtures.yaml': 'fixtures: [{ name: a, output: 1 }]',
      }),
    ],
    [
      'what is served beside, before anybody can call it',
      (at) => ({
        'tool.yaml': ECHO,
        'fixtures.yaml': `serve: [sh, -c, 'echo $$ > ${at}.new; mv ${at}.new ${at}; exec sleep 600']\nready: 127.0.0.1:1\nfixtures: [{ name: a, output: 1 }]`,
      }),
    ],
  ])('ends %s', async ([, files]) => {
    const place = mkdtempSync(path.join(tmpdir(), 'orrery-kit-'))
    made.push(place)
    const { cli, dir } = world(files(path.join(place, 'pid')))
    const code = cli.run('tool', 'test', path.join(dir, 'tool.yaml'))
    const pid = await eventually(() => Number(textOf(path.join(place, 'pid'))), {
      withinMs: 20_000,
      what: 'the program to begin',
    })
    cli.signal('SIGINT')
    expect(await code).toBe(130)
    await eventually(() => !isAlive(pid), { withinMs: 20_000, what: 'the program to end' })
  })
})

const textOf = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '')

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

describe('tool init', () => {
  test('makes the files, and says how to try them', async () => {
    const cli = new CliHarness()
    expect(await cli.run('tool', 'init', 'word-count')).toBe(0)
    expect(Object.keys(cli.files).filter((file) => file.includes('word-count'))).toEqual([
      '/srv/word-count/tool.yaml',
      '/srv/word-count/fixtures.yaml',
      '/srv/word-count/tool.sh',
    ])
    expect(cli.out).toContain('orrery tool test word-count')
  })

  test.for<[what: string, args: string[], said: string]>([
    ['a name that no resource has', ['Word_Count'], 'lower-case'],
    ['a type that has no beginning', ['it', '--type', 'htp'], 'Did you mean http?'],
    ['a type that is made otherwise', ['it', '--type', 'mcp'], 'There are: command ('],
  ])('refuses %s', async ([, args, said]) => {
    const cli = new CliHarness()
    expect(await cli.run('tool', 'init', ...args)).toBe(2)
    expect(cli.err).toContain(said)
  })

  test('touches nothing that is there already', async () => {
    const cli = new CliHarness()
    cli.files['/srv/it/tool.yaml'] = 'mine'
    expect(await cli.run('tool', 'init', 'it')).toBe(2)
    expect(cli.files['/srv/it/tool.yaml']).toBe('mine')
    expect(cli.err).toContain('Nothing was written')
  })

  for (const type of Object.keys(TOOL_SCAFFOLDS) as ToolScaffold[])
    test.skipIf(type === 'command' && noSandbox !== null)(
      `makes a tool of type ${type} that passes at once`,
      async () => {
        const port = String(await freePort())
        const files = scaffoldTool('it', type).map(({ path: name, text }) => [
          name,
          typeof text === 'string' ? text.replaceAll('8787', port) : text,
        ])
        const { cli, dir } = world(Object.fromEntries(files) as Record<string, string | Uint8Array>)
        const code = await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))
        expect([code, cli.out, cli.err]).toEqual([0, expect.stringMatching(/[123] passed, 0 failed/), ''])
      },
    )
})

test('the tool of type grpc calls a service that the gRPC library serves', async () => {
  const { target, asked } = await serveWords()
  const files = Object.fromEntries(scaffoldTool('it', 'grpc').map(({ path: name, text }) => [name, String(text)]))
  const { cli, dir } = world({
    'tool.yaml': (files['tool.yaml'] ?? '').replace('127.0.0.1:8787', target),
    'fixtures.yaml': (files['fixtures.yaml'] ?? '').replace(/^(serve|ready):.*\n/gm, ''),
  })
  const code = await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))
  expect([code, cli.out, cli.err]).toEqual([0, expect.stringContaining('3 passed, 0 failed'), ''])
  expect(asked).toEqual(['a few words', ''])
})

/** The service of the scaffold, by a library that nobody here wrote. */
async function serveWords() {
  const proto = /proto: \|\n((?: {4}.*\n)+)/.exec(String(scaffoldTool('it', 'grpc')[0]?.text))?.[1] ?? ''
  const { root } = protobuf.parse(proto, new protobuf.Root())
  const [Text, Counted] = [root.lookupType('words.v1.Text'), root.lookupType('words.v1.Counted')]
  const asked: string[] = []
  const server = new Server()
  const count = (
    call: ServerUnaryCall<{ text: string }, { words: number }>,
    done: sendUnaryData<{ words: number }>,
  ) => {
    const { text } = call.request
    asked.push(text)
    if (text === '') return done({ code: status.INVALID_ARGUMENT, details: 'there is no text' })
    done(null, { words: text.split(' ').length })
  }
  server.addService(
    {
      Count: {
        path: '/words.v1.Words/Count',
        requestStream: false,
        responseStream: false,
        requestSerialize: (value: object) => Buffer.from(Text.encode(Text.fromObject(value)).finish()),
        requestDeserialize: (bytes: Buffer) => Text.toObject(Text.decode(bytes), { defaults: true }),
        responseSerialize: (value: object) => Buffer.from(Counted.encode(Counted.fromObject(value)).finish()),
        responseDeserialize: (bytes: Buffer) => Counted.decode(bytes),
      },
    },
    { Count: count },
  )
  const port = await new Promise<number>((done, fail) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? fail(error) : done(bound),
    ),
  )
  onTestFinished(() => server.forceShutdown())
  return { target: `127.0.0.1:${port}`, asked }
}

describe('tool test', () => {
  test('shows what differs, and ends with 1', async () => {
    const { cli, dir } = world({
      'tool.yaml': ECHO,
      'fixtures.yaml': `fixtures:
  - { name: is the same, input: { b: 1, a: 2 }, output: { a: 2, b: 1 } }
  - { name: differs, input: { a: 1, c: 3 }, output: { a: 2, c: 3 } }
  - { name: should fail, input: {}, fails: { code: tool.failed } }
`,
    })
    expect(await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))).toBe(1)
    expect(cli.out).toMatch(/ok {4}is the same\nFAIL {2}differs\n/)
    expect(cli.out).toMatch(/ {6}- {3}"a": 2,\n {6}\+ {3}"a": 1,\n {8} {2}"c": 3/)
    expect(cli.out).toContain('FAIL  should fail')
    expect(cli.out).toContain('1 passed, 2 failed')
  })

  test('takes other fixtures, and gives all of it as data', async () => {
    const { cli, dir } = world({ 'tool.yaml': ECHO, 'other.yaml': 'fixtures: [{ name: one, output: {} }]' })
    const other = path.join(dir, 'other.yaml')
    expect(await cli.run('tool', 'test', path.join(dir, 'tool.yaml'), '--fixtures', other, '--json')).toBe(0)
    expect(JSON.parse(cli.out)).toMatchObject({
      tool: 'it',
      passed: 1,
      failed: 0,
      fixtures: [{ name: 'one', passed: true, result: { ok: true, output: {} }, tries: 1 }],
    })
  })

  test('gives stand-ins for secrets, and shows none', async () => {
    const spec = 'type: command, isolation: none, command: { argv: [env], env: { TOKEN: { secret: api, key: token } } }'
    const { cli, dir } = world({
      'tool.yaml': manifest(spec),
      'fixtures.yaml': 'secrets: { api/token: correct-horse }\nfixtures: [{ name: one, output: x }]',
    })
    expect(await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))).toBe(1)
    expect(cli.out).toContain('TOKEN=[secret]')
    expect(cli.out).not.toContain('correct-horse')
  })

  test('starts no server where something else listens already', async () => {
    const other = createServer((socket) => void socket.end())
    other.listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const place = `127.0.0.1:${(other.address() as AddressInfo).port}` // it listens on TCP
    const fixtures = `serve: [node, none.mjs]\nready: ${place}\nfixtures: [{ name: a, output: 1 }]`
    const { cli, dir } = world({ 'tool.yaml': ECHO, 'fixtures.yaml': fixtures })
    expect(await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))).not.toBe(0)
    expect(cli.err).toContain(`something else listens at ${place} already`)
    expect(cli.err).toContain('another port')
  })

  test.for<[what: string, tool: string, fixtures: string, said: RegExp]>([
    ['a manifest with a mistake', manifest('type: htp'), 'fixtures: [{ name: a, output: 1 }]', /must be one of http/],
    ['a tool that cannot be tried alone', manifest('type: agent, agent: a'), '', /cannot be tried alone/],
    [
      'no tool',
      'apiVersion: orrery.dev/v1\nkind: Instructions\nmetadata: { name: a }\nspec: { text: a }\n',
      '',
      /has no tool/,
    ],
    ['a fixture that wants nothing', ECHO, 'fixtures: [{ name: a }]', /must have either output or fails/],
    ['a key that is none', ECHO, 'fixtures: [{ name: a, outptu: 1 }]', /outptu/],
    ['a code that is none', ECHO, 'fixtures: [{ name: a, fails: { code: tool.failde } }]', /tool\.failed/],
    [
      'a server of which nobody knows where it is',
      ECHO,
      'serve: [a]\nfixtures: [{ name: a, output: 1 }]',
      /ready: HOST:PORT/,
    ],
    [
      'a server that does not start',
      ECHO,
      'serve: [node, none.mjs]\nready: 127.0.0.1:1\nfixtures: [{ name: a, output: 1 }]',
      /it ended with code 1/,
    ],
  ])('refuses %s', async ([, tool, fixtures, said]) => {
    const { cli, dir } = world({ 'tool.yaml': tool, 'fixtures.yaml': fixtures })
    expect(await cli.run('tool', 'test', path.join(dir, 'tool.yaml'))).not.toBe(0)
    expect(cli.err).toMatch(said)
  })
})
