import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { HandClock, systemClock } from '../../base/clock.ts'
import { endOfTurn } from '../../base/turn.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import {
  addressOf,
  deadAddress,
  envelopeOf,
  EVERYTHING,
  mcpRig,
  programOf,
  serverOf,
  startAuthorization,
  startEverything,
  startHttpProgram,
  startListener,
} from '../testing/mcp-rig.ts'

const caught = async (work: Promise<unknown>): Promise<Failure> => {
  const error = await work.then(() => null).catch((thrown: unknown) => thrown)
  if (!(error instanceof Failure)) throw new Error('no failure', { cause: error })
  return error
}

function isAlive(pid: number): boolean {
  try {
    // What has ended and was not waited for is a zombie: it runs no more.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** Polls a state. */
async function eventually<T>(look: () => Promise<T> | T, isGood: (found: T) => boolean): Promise<T> {
  for (let tries = 0; ; tries++) {
    const found = await look()
    if (isGood(found) || tries > 400) return found
    await systemClock.sleep(25)
  }
}

test('a program whose child left its group and holds its streams is closed all the same', async () => {
  const { clients, env } = mcpRig()
  const { spec, ...server } = programOf()
  const dir = mkdtempSync(join(tmpdir(), 'orrery-test-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const script = `setsid sh -c 'echo $$ > ${dir}/new; mv ${dir}/new ${dir}/pid; exec sleep 600' & exec "$0" "$@"`
  const args = ['-c', script, spec.stdio?.command ?? '', ...(spec.stdio?.args ?? [])]
  const leaving = { ...server, spec: { ...spec, stdio: { ...spec.stdio, command: 'sh', args } } } as typeof server & {
    spec: typeof spec
  }
  expect(await clients.tools(leaving, env)).not.toEqual([])
  const pid = Number(
    await eventually(() => (existsSync(`${dir}/pid`) ? readFileSync(`${dir}/pid`, 'utf8') : ''), Boolean),
  )
  onTestFinished(() => void process.kill(pid, 'SIGKILL'))
  await clients.close()
  expect(isAlive(pid)).toBe(true)
})

describe('a server that nobody here wrote, over stdio', () => {
  test('lists its tools as SERVER.TOOL, and what they give comes as JSON', async () => {
    const { clients, env } = mcpRig()
    const server = serverOf('all', {
      transport: 'stdio',
      stdio: { command: process.execPath, args: [EVERYTHING, 'stdio'] },
    })
    const tools = await clients.tools(server, env)
    const echo = tools.find(({ name }) => name === 'all.echo')
    expect(echo).toMatchObject({
      operation: 'write',
      repeatable: false,
      inputSchema: { type: 'object', properties: { message: { type: 'string' } } },
    })
    expect(await clients.call(server, 'all.echo', envelopeOf({ message: 'hello' }), env)).toEqual({
      ok: true,
      output: 'Echo: hello',
    })
    const weather = await clients.call(server, 'get-structured-content', envelopeOf({ location: 'New York' }), env)
    expect(weather).toMatchObject({ ok: true, output: { temperature: expect.any(Number) } })
    const image = await clients.call(server, 'get-tiny-image', envelopeOf({}), env)
    expect(image).toMatchObject({
      ok: true,
      output: expect.arrayContaining([expect.objectContaining({ type: 'image', omitted: true })]),
    })
    expect(JSON.stringify(image).length).toBeLessThan(1_000)
    const wrong = await clients.call(server, 'echo', envelopeOf({ massage: 'hello' }), env)
    expect(wrong).toMatchObject({
      ok: false,
      code: 'tool.invalid_input',
      reason: expect.stringContaining('input.message is required'),
    })
  })
})

describe('which tools are offered, and as what', () => {
  test('filters, overrides, and hints that only tighten', async () => {
    const { clients, env } = mcpRig()
    const tools = {
      include: ['e*', 'wipe', 'variables', 'fail'],
      exclude: ['*ail'],
      overrides: [{ match: 'echo', operation: 'read' }],
    }
    const server = programOf({ tools })
    const offered = await clients.tools(server, env)
    expect(offered.map(({ name, operation, repeatable }) => [name, operation, repeatable])).toEqual([
      ['bad.echo', 'read', true],
      // It says of itself that it only reads, which is a hint.
      ['bad.variables', 'write', false],
      // It says of itself that it destroys, which is taken at its word.
      ['bad.wipe', 'delete', false],
    ])
    expect(await clients.call(server, 'bad.fail', envelopeOf({}), env)).toMatchObject({
      ok: false,
      code: 'tool.unknown',
      evidence: { tools: ['echo', 'variables', 'wipe'] },
    })
    expect(await clients.call(server, 'eco', envelopeOf({}), env)).toMatchObject({
      reason: 'bad offers no tool eco; did you mean echo?',
    })
  })

  test('a tool that comes later is offered without a new connection', async () => {
    const { clients, env, logged } = mcpRig()
    const server = programOf()
    expect((await clients.tools(server, env)).map(({ name }) => name)).not.toContain('bad.grown')
    await clients.call(server, 'grow', envelopeOf({}), env)
    const isThere = (names: string[]) => names.includes('bad.grown')
    expect(await eventually(async () => (await clients.tools(server, env)).map(({ name }) => name), isThere)).toContain(
      'bad.grown',
    )
    expect(await clients.call(server, 'grown', envelopeOf({}), env)).toEqual({ ok: true, output: 'I am new' })
    expect(logged).toEqual([])
  })
})

describe('a program', () => {
  test('has a directory of its own, and no variables but PATH, HOME, TMPDIR and those that were given', async () => {
    const { clients, env } = mcpRig({ secrets: { 'github/token': 'hush-hush' } })
    const server = programOf({}, [], { GREETING: 'hello', TOKEN: { secret: 'github', key: 'token' } })
    const place = await clients.call(server, 'place', envelopeOf({}), env)
    const given = await clients.call(server, 'variables', envelopeOf({}), env)
    const variables: unknown = JSON.parse(given.ok ? String(given.output) : '')
    const home = place.ok ? place.output : null
    // What was secret is not told, not even by the server itself.
    expect(variables).toEqual({
      PATH: expect.any(String),
      HOME: home,
      TMPDIR: home,
      GREETING: 'hello',
      TOKEN: '[secret]',
    })
    await clients.close()
    expect(readdirSync(tmpdir()).map((name) => `${tmpdir()}/${name}`)).not.toContain(home)
  })

  test('of another secret is another program; the old one ends when it is idle', async () => {
    const clock = new HandClock(0)
    const rig = mcpRig({ clock, secrets: { 'github/token': 'one-one' } })
    const server = programOf({ idleStop: '1m' }, [], { TOKEN: { secret: 'github', key: 'token' } })
    const count = async () => {
      const result = await rig.clients.call(server, 'echo', envelopeOf({ text: 'x' }), rig.env)
      return result.ok && typeof result.output === 'object' && result.output && 'calls' in result.output
        ? result.output['calls']
        : result
    }
    expect([await count(), await count()]).toEqual([1, 2])
    rig.secrets['github/token'] = 'two-two'
    expect(await count()).toBe(1)
    rig.secrets['github/token'] = 'one-one'
    expect(await count()).toBe(3)
    clock.advance(60_000)
    await endOfTurn()
    expect(await count()).toBe(1)
  })

  test('that ends in the middle of a call fails it with its last words; the next call starts it again', async () => {
    const { clients, env, logged } = mcpRig()
    const server = programOf()
    expect(await clients.call(server, 'die', envelopeOf({ code: 7 }), env)).toMatchObject({
      ok: false,
      code: 'mcp.exited',
      retryable: false,
      reason: expect.stringContaining('the call may have been carried out'),
      evidence: { server: 'default/bad', exitCode: 7, stderr: 'I shall be gone\n', outcome: 'unknown' },
    })
    expect(logged).toContainEqual(['program of an MCP server ended', expect.objectContaining({ exitCode: 7 })])
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'again' }), env)).toMatchObject({ ok: true })
  })

  test('is asked once more for what may be repeated, with the same key', async () => {
    const { clients, env } = mcpRig()
    const server = programOf({ tools: { overrides: [{ match: 'die', repeatable: true }] } })
    const result = await clients.call(server, 'die', envelopeOf({ code: 0 }), env)
    expect(result).toMatchObject({ ok: false, code: 'mcp.exited', retryable: true })
  })

  test('that ends at an unknown question is taken for an old one', async () => {
    const { clients, env } = mcpRig()
    const server = programOf({}, ['old'])
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'old' }), env)).toMatchObject({ ok: true })
  })

  test('ends with the process that started it, also when that is killed', async () => {
    const module = new URL('./child-transport.ts', import.meta.url).href
    // It takes no notice of the end of its input.
    const program = `setInterval(() => {}, 1e3); process.stdin.resume()`
    const script = `
      const { startChild } = await import(${JSON.stringify(module)})
      const { systemClock } = await import(${JSON.stringify(new URL('../../base/clock.ts', import.meta.url).href)})
      const program = { command: process.execPath, args: ['-e', ${JSON.stringify(program)}], env: {}, workdir: null, isolation: 'none' }
      console.log((await startChild(program, { path: null, programs: { files: null }, clock: systemClock })).pid)
      setInterval(() => {}, 1e3)`
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [said] = (await once(parent.stdout, 'data')) as [Buffer]
    const pid = Number(said.toString())
    onTestFinished(() => {
      if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    })
    expect(isAlive(pid)).toBe(true)
    parent.kill('SIGKILL')
    expect(
      await eventually(
        () => isAlive(pid),
        (alive) => !alive,
      ),
    ).toBe(false)
  })

  test('that is not there is named, with where it was looked for', async () => {
    const { clients, env } = mcpRig()
    const server = serverOf('gone', {
      transport: 'stdio',
      stdio: { command: 'no-such-program' },
      reconnect: { max: 0 },
    })
    const failure = await caught(clients.tools(server, env))
    expect(failure).toMatchObject({
      code: 'mcp.unreachable',
      evidence: {
        server: 'default/gone',
        command: 'no-such-program',
        searched: expect.arrayContaining(['/usr/bin/no-such-program']),
      },
    })
  })

  test('that ends at once is tried again with back-off, then fails with how it ended', async () => {
    const { clients, env, logged } = mcpRig()
    const script = 'process.stderr.write("no configuration"); process.exit(4)'
    const server = serverOf('sick', {
      transport: 'stdio',
      stdio: { command: process.execPath, args: ['-e', script] },
      reconnect: { max: 2, initial: '1ms' },
    })
    const failure = await caught(clients.tools(server, env))
    expect(failure).toMatchObject({ code: 'mcp.exited', evidence: { exitCode: 4, stderr: 'no configuration' } })
    expect(logged.map(([message]) => message)).toEqual(Array(2).fill('MCP server not reached, trying again'))
  })

  test('that speaks another language fails with what it said', async () => {
    const { clients, env } = mcpRig()
    const flood = `process.stdout.write("x".repeat(${LIMITS.mcpMessageBytes + 1})); setInterval(() => {}, 1e3)`
    const server = serverOf('flood', {
      transport: 'stdio',
      stdio: { command: process.execPath, args: ['-e', flood] },
      reconnect: { max: 0 },
    })
    expect(await caught(clients.tools(server, env))).toMatchObject({
      code: 'mcp.protocol_error',
      message: /larger than/,
    })
  })

  test('that prints what is no message goes on', async () => {
    const { clients, env } = mcpRig()
    expect(await clients.call(programOf(), 'chatter', envelopeOf({}), env)).toEqual({ ok: true, output: 'said it' })
  })
})

describe('a call', () => {
  test('carries its idempotency key and trace', async () => {
    const { clients, env } = mcpRig()
    const envelope = envelopeOf({ text: 'x' })
    const result = await clients.call(programOf(), 'echo', envelope, env)
    expect(result).toMatchObject({
      output: { meta: { 'dev.orrery/idempotency-key': 'stp_1/call_1', traceparent: envelope.context.traceparent } },
    })
  })

  test('that never ends is over when its time is, however much progress it tells of', async () => {
    const { clients, env } = mcpRig()
    const server = programOf({ tools: { overrides: [{ match: 'hang', timeout: '200ms' }] } })
    expect(await clients.call(server, 'hang', envelopeOf({}), env)).toEqual({
      ok: false,
      code: 'tool.timeout',
      reason: 'bad.hang did not end within 200 ms',
      retryable: false,
      evidence: { timeoutMs: 200 },
    })
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'still here' }), env)).toMatchObject({ ok: true })
  })

  test('that is given up is told so, and only its own caller leaves', async () => {
    const { clients, env } = mcpRig()
    const server = programOf()
    await clients.tools(server, env)
    const leaving = new AbortController()
    const left = clients.call(server, 'hang', envelopeOf({}), { ...env, signal: leaving.signal })
    const other = clients.call(server, 'echo', envelopeOf({ text: 'x' }), env)
    leaving.abort(new Error('gone'))
    await expect(left).rejects.toThrow('gone')
    expect(await other).toMatchObject({ ok: true })
  })

  test('that fails says what the tool said', async () => {
    const { clients, env } = mcpRig()
    expect(await clients.call(programOf(), 'fail', envelopeOf({}), env)).toEqual({
      ok: false,
      code: 'tool.failed',
      reason: 'bad.fail: the disk is on fire',
      retryable: false,
    })
  })

  test('that gives too much fails, and says how much', async () => {
    const { clients, env } = mcpRig()
    const server = programOf({ outputBytes: 1_024 })
    expect(await clients.call(server, 'flood', envelopeOf({ bytes: 1_024 }), env)).toMatchObject({ ok: true })
    expect(await clients.call(server, 'flood', envelopeOf({ bytes: 1_025 }), env)).toMatchObject({
      ok: false,
      code: 'tool.invalid_output',
      evidence: { bytes: 1_025, outputBytes: 1_024 },
    })
  })

  test('that gives a picture says how large it was', async () => {
    const { clients, env } = mcpRig()
    expect(await clients.call(programOf(), 'picture', envelopeOf({}), env)).toEqual({
      ok: true,
      output: [
        { type: 'text', text: 'see' },
        { type: 'image', mimeType: 'image/png', bytes: 1_000, omitted: true },
      ],
    })
  })
})

describe('a server over HTTP', () => {
  test('is called with its secret, which is changed without a restart', async () => {
    const { url } = await startHttpProgram({ TOKEN: 'first-token' })
    const rig = mcpRig({ secrets: { 'far/token': 'first-token' } })
    const auth = { auth: { type: 'bearer', token: { secret: 'far', key: 'token' } } }
    expect(await rig.clients.call(addressOf(url, auth), 'echo', envelopeOf({ text: 'x' }), rig.env)).toMatchObject({
      ok: true,
    })
    rig.secrets['far/token'] = 'wrong-token'
    expect(await rig.clients.call(addressOf(url, auth), 'echo', envelopeOf({ text: 'x' }), rig.env)).toMatchObject({
      ok: false,
      code: 'mcp.auth_failed',
      evidence: { status: 401, secrets: ['http.auth.token: far/token'] },
    })
    delete rig.secrets['far/token']
    expect(await caught(rig.clients.tools(addressOf(url, auth), rig.env))).toMatchObject({
      code: 'mcp.auth_failed',
      evidence: { use: 'http.auth.token', secret: 'far', key: 'token' },
    })
    const named = { headers: { Authorization: 'Bearer first-token' } }
    expect(await rig.clients.tools(addressOf(url, named), rig.env)).not.toEqual([])
    const headed = { auth: { type: 'header', name: 'Authorization', value: { secret: 'far', key: 'whole' } } }
    rig.secrets['far/whole'] = 'Bearer first-token'
    expect(await rig.clients.tools(addressOf(url, headed), rig.env)).not.toEqual([])
  })

  test('is not called at a private address unless that is allowed', async () => {
    const { clients, env } = mcpRig()
    const failure = await caught(
      clients.tools(addressOf('http://127.0.0.1:9/mcp', { allowPrivateAddresses: false }), env),
    )
    expect(failure).toMatchObject({ code: 'model.address_blocked', remediation: /http\.allowPrivateAddresses/ })
  })

  test('that is away is named; one that comes back is found again', async () => {
    const { clients, env } = mcpRig()
    const first = await startHttpProgram()
    const server = addressOf(first.url, {}, { reconnect: { max: 1, initial: '1ms' } })
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'x' }), env)).toMatchObject({ ok: true })
    await first.stop()
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'x' }), env)).toMatchObject({
      ok: false,
      code: 'mcp.unreachable',
      retryable: true,
      evidence: { server: 'default/far', where: first.url, error: 'ECONNREFUSED' },
    })
    await startHttpProgram({ PORT: String(first.port) })
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'x' }), env)).toMatchObject({
      ok: true,
      output: { calls: 1 },
    })
  })

  test.for<[what: string, answer: Partial<{ status: number; type: string; body: string }>, code: string]>([
    ['a page of the web', { type: 'text/html', body: '<html>' }, 'mcp.protocol_error'],
    ['an address without anything', { status: 404, body: 'nothing here' }, 'mcp.protocol_error'],
    ['a server that is overloaded', { status: 503, body: 'later' }, 'mcp.unreachable'],
    ['one that forbids', { status: 403, body: 'no' }, 'mcp.auth_failed'],
  ])('%s is told apart', async ([, { status = 200, type = 'text/plain', body = '' }, code]) => {
    const { clients, env } = mcpRig()
    const url = await startListener((_, response) => response.writeHead(status, { 'content-type': type }).end(body))
    expect(await caught(clients.tools(addressOf(url, {}, { reconnect: { max: 0 } }), env))).toMatchObject({
      code,
      evidence: { server: 'default/far', where: url },
    })
  })

  test('shows its secrets to its own address alone, whatever it says', async () => {
    const { clients, env } = mcpRig({ secrets: { 'far/key': 'very-secret' } })
    const seen: unknown[] = []
    const elsewhere = await startListener((request, response) => {
      seen.push(request.headers['x-key'])
      response.writeHead(404).end()
    })
    const url = await startListener((_, response) => response.writeHead(307, { location: elsewhere }).end())
    const server = addressOf(url, { headers: { 'X-Key': { secret: 'far', key: 'key' } } }, { reconnect: { max: 0 } })
    await caught(clients.tools(server, env))
    expect(seen.filter((value) => value !== undefined)).toEqual([])
  })

  test('that was started anew, and knows nothing of our session, is given another', async () => {
    const { clients, env } = mcpRig()
    const first = await startEverything(Number(new URL(await deadAddress()).port))
    const server = addressOf(first.url)
    const echo = () => clients.call(server, 'echo', envelopeOf({ message: 'hello' }), env)
    expect(await echo()).toEqual({ ok: true, output: 'Echo: hello' })
    await first.stop()
    await startEverything(first.port)
    expect((await clients.tools(server, env)).map(({ name }) => name)).toContain('far.echo')
    expect(await echo()).toEqual({ ok: true, output: 'Echo: hello' })
  })

  test('after the end nobody is reached any more', async () => {
    const { clients, env } = mcpRig()
    await clients.close()
    expect(await caught(clients.tools(programOf(), env))).toMatchObject({ code: 'mcp.unreachable' })
  })

  test.for(['2026-07-28', '2025-11-25'])('is spoken to in revision %s', async (protocol) => {
    const { clients, env } = mcpRig()
    const { url } = await startHttpProgram()
    const server = addressOf(url, {}, { protocol })
    expect((await clients.tools(server, env)).map(({ name }) => name)).toContain('far.echo')
    expect(await clients.call(server, 'echo', envelopeOf({ text: 'x' }), env)).toMatchObject({ ok: true })
  })

  test('that tells of new tools is asked for them', async () => {
    const { clients, env } = mcpRig()
    const { url } = await startHttpProgram()
    const server = addressOf(url)
    const names = async () => (await clients.tools(server, env)).map(({ name }) => name)
    expect(await names()).not.toContain('far.grown')
    await clients.call(server, 'grow', envelopeOf({}), env)
    expect(await eventually(names, (all) => all.includes('far.grown'))).toContain('far.grown')
  })
})

describe('OAuth client credentials', () => {
  const oauth = (more: JsonObject = {}) => ({
    auth: {
      type: 'oauth',
      clientId: 'orrery',
      clientSecret: { secret: 'far', key: 'client' },
      scope: 'tools',
      ...more,
    },
  })

  test('a token is had from the server that is named, and shown', async () => {
    const { clients, env } = mcpRig({ secrets: { 'far/client': 'client-secret' } })
    const { url } = await startHttpProgram({ TOKEN: 'granted' })
    const { front, issuer, asked } = await startAuthorization(url, 'granted')
    const server = addressOf(front, oauth({ issuer }))
    expect((await clients.tools(server, env)).map(({ name }) => name)).toContain('far.echo')
    // What the server says back of it is taken out, as what it says of secrets.
    const said = await clients.call(server, 'echo', envelopeOf({ text: 'I was granted it' }), env)
    expect(JSON.stringify(said)).toContain('I was [secret] it')
    expect(asked).toEqual([
      {
        authorization: `Basic ${Buffer.from('orrery:client-secret').toString('base64')}`,
        scope: 'tools',
        grant: 'client_credentials',
      },
    ])
  })

  test('a secret that is refused is an auth failure, and is shown to no other issuer', async () => {
    const { clients, env } = mcpRig({ secrets: { 'far/client': 'client-secret' } })
    const { url } = await startHttpProgram({ TOKEN: 'granted' })
    const refused = await startAuthorization(url, null)
    expect(await caught(clients.tools(addressOf(refused.front, oauth({ issuer: refused.issuer })), env))).toMatchObject(
      {
        code: 'mcp.auth_failed',
        evidence: { secrets: ['http.auth.clientSecret: far/client'] },
      },
    )
    const { front, asked } = await startAuthorization(url, 'granted')
    const pinned = addressOf(front, oauth({ issuer: 'https://login.example' }))
    expect(await caught(clients.tools(pinned, env))).toMatchObject({ code: 'mcp.auth_failed' })
    expect(asked).toEqual([])
  })

  test('a key signs instead of a secret', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const { clients, env } = mcpRig({ secrets: { 'far/pem': pem } })
    const { url } = await startHttpProgram({ TOKEN: 'granted' })
    const { front, issuer, asked } = await startAuthorization(url, 'granted')
    const auth = {
      auth: {
        type: 'oauth',
        clientId: 'orrery',
        issuer,
        privateKey: { secret: 'far', key: 'pem' },
        algorithm: 'ES256',
      },
    }
    expect(await clients.tools(addressOf(front, auth), env)).not.toEqual([])
    expect(asked).toEqual([expect.objectContaining({ assertion: expect.stringMatching(/^eyJ/) })])
  })
})
