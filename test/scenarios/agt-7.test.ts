import { describe, expect, test } from 'vitest'
import { offerMcpServers } from '../../src/agents/mcp/offer-servers.ts'
import {
  addressOf,
  deadAddress,
  envelopeOf,
  EVERYTHING,
  mcpRig,
  serverOf,
  startHttpProgram,
} from '../../src/agents/testing/mcp-rig.ts'
import { Failure } from '../../src/domain/failure.ts'
import { doc, startAgents, yamlOf } from './agents.ts'

const everything = () =>
  serverOf('all', { transport: 'stdio', stdio: { command: process.execPath, args: [EVERYTHING, 'stdio'] } })
const away = async () => addressOf(await deadAddress(), {}, { reconnect: { max: 1, initial: '1ms' } })
const keyed = (url: string) => ({
  ...addressOf(url, { headers: { Authorization: { secret: 'far', key: 'header' } } }),
  tools: null,
  optional: false,
})

const caught = async (work: Promise<unknown>): Promise<Failure> => {
  const error = await work.then(() => null).catch((thrown: unknown) => thrown)
  if (!(error instanceof Failure)) throw new Error('no failure', { cause: error })
  return error
}

describe('AGT-7: an MCP server cannot be reached at the start, dies later, or has no secret', () => {
  test('without an optional server the agent goes on with the tools of the others, and a warning names it', async () => {
    const { clients, env } = mcpRig()
    const others = { ...everything(), optional: false, tools: ['echo', 'get-*'] }
    const gone = await away()
    for (const optional of [
      { ...gone, optional: true, tools: null },
      { ...gone, spec: { ...gone.spec, optional: true }, optional: false, tools: null },
    ]) {
      const { tools, warnings } = await offerMcpServers(clients, [optional, others], env)
      const names = tools.map(({ name }) => name)
      expect(names).toContain('all.echo')
      expect(names.every((name) => /^all\.(echo|get-.*)$/.test(name))).toBe(true)
      expect(warnings).toEqual([
        expect.objectContaining({
          code: 'mcp.unreachable',
          retryable: true,
          evidence: expect.objectContaining({ server: 'default/far', error: 'ECONNREFUSED' }),
        }),
      ])
    }
  })

  test('a required server fails the agent, and so does a call of a tool of an optional one that is away', async () => {
    const { clients, env } = mcpRig()
    const gone = await away()
    const required = { ...gone, optional: false, tools: null }
    const failure = await caught(
      offerMcpServers(clients, [{ ...everything(), optional: false, tools: null }, required], env),
    )
    expect(failure).toMatchObject({ code: 'mcp.unreachable', message: /default\/far/ })
    expect(failure.remediation).toMatch(/spec\.http\.url/)
    expect(await clients.call(gone, 'far.echo', envelopeOf({ text: 'x' }), env)).toMatchObject({
      ok: false,
      code: 'mcp.unreachable',
      reason: expect.stringContaining('default/far'),
    })
  })

  test('one that dies in a call fails the call with how it ended and its last words, and is there again for the next', async () => {
    const { clients, env } = mcpRig()
    const script = `
      const send = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\\n')
      require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
        const { id, method } = JSON.parse(line)
        if (method === 'initialize') send(id, { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'brief', version: '1' } })
        if (method === 'tools/list') send(id, { tools: [{ name: 'last', inputSchema: { type: 'object' } }] })
        if (method === 'tools/call') { process.stderr.write('out of memory'); process.exit(9) }
        if (method === 'server/discover') process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, error: { code: -32601, message: 'what?' } }) + '\\n')
      })`
    const server = serverOf('brief', { transport: 'stdio', stdio: { command: process.execPath, args: ['-e', script] } })
    expect(await clients.call(server, 'brief.last', envelopeOf({}), env)).toMatchObject({
      ok: false,
      code: 'mcp.exited',
      evidence: { server: 'default/brief', exitCode: 9, stderr: 'out of memory', outcome: 'unknown' },
    })
    expect((await clients.tools(server, env)).map(({ name }) => name)).toEqual(['brief.last'])
  })

  test('a header whose secret is missing or wrong fails with the secret, and works as soon as it is set', async () => {
    const rig = mcpRig()
    const { url } = await startHttpProgram({ TOKEN: 'right-token' })
    const offer = () => offerMcpServers(rig.clients, [keyed(url)], rig.env)
    expect(await caught(offer())).toMatchObject({
      code: 'mcp.auth_failed',
      evidence: { server: 'default/far', use: 'http.headers.Authorization', secret: 'far', key: 'header' },
    })
    rig.secrets['far/header'] = 'Bearer wrong-token'
    const refused = await caught(offer())
    expect(refused).toMatchObject({
      code: 'mcp.auth_failed',
      evidence: { status: 401, secrets: ['http.headers.Authorization: far/header'] },
    })
    expect(JSON.stringify(refused.toRecord())).not.toContain('wrong-token')
    rig.secrets['far/header'] = 'Bearer right-token'
    expect((await offer()).tools.map(({ name }) => name)).toContain('far.echo')
  })

  test('one that was away and comes back is reached again', async () => {
    const { clients, env } = mcpRig()
    const first = await startHttpProgram()
    const server = addressOf(first.url, {}, { reconnect: { max: 1, initial: '1ms' } })
    const call = () => clients.call(server, 'far.echo', envelopeOf({ text: 'x' }), env)
    expect(await call()).toMatchObject({ ok: true })
    await first.stop()
    expect(await call()).toMatchObject({ ok: false, code: 'mcp.unreachable' })
    await startHttpProgram({ PORT: String(first.port) })
    expect(await call()).toMatchObject({ ok: true })
  })

  test('in a run: an optional one is a warning and the tools of the other are called; a required one fails the step by name', async () => {
    const scene = await startAgents()
    const stdio = { command: process.execPath, args: [EVERYTHING, 'stdio'] }
    const tools = { overrides: [{ match: 'echo', operation: 'read' }] }
    const gone = {
      transport: 'http',
      http: { url: await deadAddress(), allowPrivateAddresses: true },
      reconnect: { max: 0 },
    }
    await scene.apply(
      yamlOf([doc('McpServer', 'all', { transport: 'stdio', stdio, tools }), doc('McpServer', 'far', gone)]),
    )
    const replies = [{ toolCalls: [{ name: 'all.echo', input: { message: 'hello' } }] }, { text: 'It said hello.' }]
    const ask = (optional: boolean) =>
      scene.ask({
        agent: {
          mcpServers: [
            { name: 'all', tools: ['echo'] },
            { name: 'far', optional },
          ],
        },
        model: { mock: { replies } },
      })
    const run = await ask(true)
    expect(run).toMatchObject({ state: 'succeeded', stepList: [{ output: { text: 'It said hello.' } }] })
    const journal = await scene.journal(run.id, 'write')
    expect(journal.find((entry) => entry['kind'] === 'tool_answered')).toMatchObject({
      result: { ok: true, output: 'Echo: hello' },
    })
    const { stdout } = await scene.orrery('runs', 'logs', run.id)
    expect(stdout).toContain('mcp.unreachable')
    expect(await ask(false)).toMatchObject({
      state: 'failed',
      stepList: [{ failure: { code: 'mcp.unreachable', evidence: { server: 'default/far' } } }],
    })
  })
})
