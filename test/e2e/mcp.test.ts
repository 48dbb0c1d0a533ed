// A program that speaks MCP runs a workflow through `orrery mcp serve`, and through the server itself.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'bin', 'orrery.mjs')
const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: greet }
spec:
  inputs: { type: object, required: [name], properties: { name: { type: string } } }
  steps:
    - name: hello
      command: [echo, 'hello \${{ inputs.name }}']
      output: text
`

const AGENT = `apiVersion: orrery.dev/v1
kind: ModelEndpoint
metadata: { name: gpt }
spec: { provider: mock, model: m, mock: { replies: [{ when: how many moons, json: { planet: Mars, moons: 2 } }, { json: {} }] } }
---
apiVersion: orrery.dev/v1
kind: Agent
metadata: { name: astronomer }
spec:
  description: Knows planets.
  model: gpt
  instructions: Answer.
  repairs: 0
  outputSchema:
    type: object
    required: [planet, moons]
    properties: { planet: { type: string }, moons: { type: integer } }
`

let home = ''
let up: OrreryProcess
let address = ''
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-mcp-e2e-'))
  const env = { ORRERY_DATA_DIR: join(home, 'data') }
  up = startOrrery(['up', '--port', '0', '--log-level', 'warn'], { env })
  address = (await up.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 }))[1] ?? ''
  await writeFile(join(home, 'greet.yaml'), FLOW)
  await writeFile(join(home, 'agent.yaml'), AGENT)
  expect(await runOrrery(['apply', '-f', 'greet.yaml', '-f', 'agent.yaml'], { env, cwd: home })).toMatchObject({
    code: 0,
  })
})
afterAll(async () => {
  await up.stop()
  await expectNoProcessLeft()
  await rm(home, { recursive: true, force: true })
})

const transports: Record<string, () => Promise<Transport>> = {
  'over the standard streams': async () =>
    new StdioClientTransport({
      command: process.execPath,
      args: [MAIN, 'mcp', 'serve'],
      env: { ORRERY_DATA_DIR: join(home, 'data') },
      stderr: 'ignore',
    }),
  'over HTTP': async () => {
    const token = (await readFile(join(home, 'data', 'admin.token'), 'utf8')).trim()
    return new StreamableHTTPClientTransport(new URL('/mcp', address), {
      requestInit: { headers: { authorization: `Bearer ${token}` } },
    })
  },
}

async function connected(how: string): Promise<Client> {
  const client = new Client({ name: 'e2e', version: '0' }, { versionNegotiation: { mode: 'auto' } })
  const transport = await transports[how]?.()
  if (!transport) throw new Error(`no transport ${how}`)
  await client.connect(transport)
  return client
}

test.for(Object.keys(transports))('an agent is found, asked and gives its value %s', async (how) => {
  const client = await connected(how)
  try {
    const listed = await client.callTool({ name: 'list_agents', arguments: {} })
    expect(listed.structuredContent).toMatchObject({
      items: [{ name: 'astronomer', model: 'gpt', outputSchema: { required: ['planet', 'moons'] } }],
    })
    const ask = (prompt: string, idempotencyKey: string) =>
      client.callTool({
        name: 'run_agent',
        arguments: { agent: 'astronomer', prompt, idempotencyKey, waitSeconds: 50 },
      })
    const answered = await ask('how many moons has Mars?', `moons ${how}`)
    expect(answered.isError ?? false).toBe(false)
    expect(answered.structuredContent).toMatchObject({
      run: { state: 'succeeded', failure: null },
      stepList: [{ name: 'answer', kind: 'agent', state: 'succeeded' }],
      untrusted: { steps: { answer: { output: { planet: 'Mars', moons: 2 } } } },
    })
    // Asked again under the same key it is the same run, which has ended.
    expect((await ask('how many moons has Mars?', `moons ${how}`)).structuredContent).toEqual(
      answered.structuredContent,
    )
    const failed = await ask('something else', `else ${how}`)
    expect(failed.structuredContent).toMatchObject({
      run: { state: 'failed', failure: { code: 'output.schema_violation' } },
      stepList: [{ name: 'answer', state: 'failed', failure: { code: 'output.schema_violation' } }],
    })
    const nobody = await client.callTool({ name: 'run_agent', arguments: { agent: 'astronomr', prompt: 'Hello?' } })
    expect(nobody).toMatchObject({ isError: true, structuredContent: { failure: { code: 'agent.not_found' } } })
  } finally {
    await client.close()
  }
})

test.for(Object.keys(transports))('a workflow is found, run and read %s', async (how) => {
  const client = await connected(how)
  try {
    const listed = await client.callTool({ name: 'list_workflows', arguments: {} })
    expect(listed.structuredContent).toMatchObject({ items: [{ name: 'greet' }] })
    const started = await client.callTool({
      name: 'run_workflow',
      arguments: { workflow: 'greet', inputs: { name: 'Ada' }, waitSeconds: 50 },
    })
    expect(started.structuredContent).toMatchObject({
      run: { workflow: 'greet', state: 'succeeded' },
      untrusted: { steps: { hello: { output: 'hello Ada' } } },
    })
    const { run } = started.structuredContent as { run: { id: string } }
    const log = await client.callTool({ name: 'get_run_logs', arguments: { run: run.id } })
    expect(log.structuredContent).toMatchObject({ untrusted: { entries: [{ text: 'hello Ada' }] } })
  } finally {
    await client.close()
  }
})

test('without a server it says so and ends', async () => {
  const ended = await runOrrery(['mcp', 'serve', '--server', 'http://127.0.0.1:9'], { cwd: home })
  expect(ended.code).not.toBe(0)
  expect(ended.stdout).toBe('')
  expect(ended.stderr).toContain('client.server_unreachable')
})
