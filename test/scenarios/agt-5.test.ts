import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import { eventually } from '../support/eventually.ts'
import { runOrrery } from '../support/processes.ts'
import { doc, startAgents, yamlOf } from './agents.ts'
import { startUp, WITHIN } from './rig.ts'

const AWAY = doc('ModelEndpoint', 'away', {
  provider: 'openai-compatible',
  model: 'm',
  baseUrl: 'https://models.invalid/v1',
})
const WRITER = doc('Agent', 'writer', {
  model: 'away',
  instructions: 'Be brief.',
  mcpServers: [{ name: 'github' }],
  roles: ['reporter'],
})
const GITHUB = doc('McpServer', 'github', { transport: 'stdio', stdio: { command: 'true' } })
const REPORTER = doc('Role', 'reporter', {
  permissions: [{ tools: ['github.*'], operations: ['read', 'delete'] }],
  rules: [{ tools: ['github.create_*'], verdict: 'approval', approvers: ['lead'], expires: '4h' }],
})
const NO_DELETES = doc('Policy', 'no-deletes', {
  tools: { denied: [{ tools: ['*'], operations: ['delete', 'admin'], reason: 'Agents delete nothing.' }] },
})

describe('AGT-5: what an agent may not do', () => {
  test('is told beforehand: which rule decides, what was asked, and how to grant it', async () => {
    const up = await startUp([])
    const env = { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token }
    const canI = async (...args: string[]) => {
      const { code, stdout } = await runOrrery(['can-i', 'writer', ...args], { env })
      return { code, stdout }
    }
    await up.client.resources.apply(yamlOf([AWAY, GITHUB, WRITER, REPORTER, NO_DELETES]))

    const read = await canI('github.list_issues', 'read')
    expect(read).toMatchObject({ code: 0, stdout: expect.stringContaining('yes  by role/reporter') })

    const asked = await canI('github.create_issue', 'write')
    expect(asked.code).toBe(3)
    expect(asked.stdout).toContain('a person decides  by role/reporter\n  decided by lead, within 4h')

    const unpermitted = await canI('github.merge', 'write')
    expect(unpermitted.code).toBe(1)
    expect(unpermitted.stdout).toContain(
      'no  by role/reporter (tool.permission_denied)\n  no role of agent writer permits github.merge (write)\n',
    )
    expect(unpermitted.stdout).toContain('{ tools: [github.merge], operations: [write] } in spec.permissions')

    // The role would permit it: the policy goes before.
    const deleted = await canI('github.delete_repo', 'delete')
    expect(deleted.code).toBe(1)
    expect(deleted.stdout).toContain('no  by policy/no-deletes (policy.denied)\n  Agents delete nothing.\n')
    expect(deleted.stdout).toMatch(/role\/reporter\s+permissions\[0\]\s+allow/)

    const stranger = await canI('slack', 'read')
    expect(stranger).toMatchObject({ code: 1, stdout: expect.stringContaining('is offered no tool slack') })

    // A grant holds from the next question on; a role that is gone takes everything with it.
    const more = { permissions: [{ tools: ['github.*'], operations: ['read', 'write'] }] }
    await up.client.resources.apply(yamlOf([doc('Role', 'reporter', more)]))
    expect((await canI('github.merge', 'write')).code).toBe(0)
    await up.client.resources.remove({ kind: 'Role', namespace: 'default', name: 'reporter' })
    const gone = await canI('github.list_issues', 'read')
    expect(gone).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('names the role reporter, and there is none'),
    })
  })

  test('no prompt leaves where a policy keeps it here, whoever asks; the refusal is audited with its rule', async () => {
    const up = await startUp([])
    const env = { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token }
    await up.client.resources.apply(yamlOf([AWAY, doc('Policy', 'stay-here', { models: { localOnly: true } })]))
    const { code, stderr } = await runOrrery(['models', 'ask', 'away', 'the secret plan'], { env })
    expect(code).toBe(77)
    expect(stderr).toContain('policy.denied')
    expect(stderr).toContain('policy/stay-here lets no prompt leave')
    const audit = await runOrrery(['audit', '--denied', '-o', 'json'], { env })
    expect(audit.stdout).toContain('policy/stay-here')
    expect(audit.stdout).not.toContain('the secret plan')
  })
})

describe('AGT-5: an agent that tries all the same', () => {
  /** A tool over HTTP that counts what reaches it. */
  async function startTool(): Promise<{ url: string; calls: string[] }> {
    const calls: string[] = []
    const server = createServer((request, response) => {
      calls.push(request.url ?? '')
      request.resume()
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls } // listening on TCP
  }

  test('is told which rule denied each call, by whom and why; nothing reaches the tools, and the run goes on', async () => {
    const scene = await startAgents()
    const tool = await startTool()
    const names = ['drop', 'mail', 'pay', 'wire', 'look']
    const http = (name: string): JsonObject => ({
      type: 'http',
      http: { url: `${tool.url}/${name}` },
      allowPrivateAddresses: true,
      operation: name === 'look' ? 'read' : 'write',
    })
    await scene.apply(
      yamlOf([
        doc('Role', 'clerk', {
          permissions: [{ tools: ['drop', 'look'], operations: ['read', 'write'] }],
          rules: [
            { tools: ['pay'], verdict: 'approval' },
            { tools: ['wire'], verdict: 'approval', expires: '1s' },
          ],
        }),
        doc('Policy', 'no-drops', { tools: { denied: [{ tools: ['drop'], reason: 'Nothing is dropped here.' }] } }),
        doc('ModelEndpoint', 'gpt', {
          provider: 'mock',
          model: 'm',
          mock: { replies: [{ toolCalls: names.map((name) => ({ name })) }, { text: 'That is all.' }] },
        }),
        ...names.map((name) => doc('Tool', name, { description: 'A tool.', ...http(name) })),
        doc('Agent', 'writer', { model: 'gpt', instructions: 'Write.', tools: names, roles: ['clerk'] }),
        doc('Workflow', 'ask', { steps: [{ name: 'write', agent: 'writer', with: { prompt: 'Go.' } }] }),
      ]),
    )
    const { client } = scene.up
    const { id } = await client.createRun({ workflowRef: 'ask', inputs: {} })
    const pay = await eventually(
      async () =>
        (await client.listApprovals({ run: id })).items.find(({ message }) => message.includes('pay')) ?? null,
      WITHIN,
    )
    expect(pay.message).toContain('role/clerk')
    await client.deny(pay.id, { comment: 'not this week' })
    expect(await scene.ended(id)).toMatchObject({
      state: 'succeeded',
      stepList: [{ output: { text: 'That is all.' } }],
    })

    const journal = await scene.journal(id, 'write')
    const callOf = new Map(
      journal.flatMap((entry) => (entry['kind'] === 'tool_asked' ? [[entry['call'], entry['tool']]] : [])),
    )
    const results = new Map(
      journal.flatMap((entry) =>
        entry['kind'] === 'tool_answered' ? [[callOf.get(entry['call'] ?? ''), entry['result']]] : [],
      ),
    )
    expect(results.get('drop')).toMatchObject({
      ok: false,
      code: 'policy.denied',
      reason: 'Nothing is dropped here. (policy/no-drops)',
      evidence: { rule: 'policy/no-drops', remediation: expect.stringContaining('spec.tools.denied[0]') },
    })
    expect(results.get('mail')).toMatchObject({
      code: 'tool.permission_denied',
      evidence: { rule: 'role/clerk', remediation: expect.stringContaining('{ tools: [mail], operations: [write] }') },
    })
    expect(results.get('pay')).toMatchObject({
      code: 'approval.denied',
      reason: expect.stringContaining('not this week'),
    })
    expect(results.get('wire')).toMatchObject({ code: 'approval.expired' })
    expect(results.get('look')).toMatchObject({ ok: true })
    expect(tool.calls).toEqual(['/look'])
  })

  test('to ask a model that a policy keeps from it fails its step, with the reason on the step', async () => {
    const scene = await startAgents()
    await scene.apply(yamlOf([AWAY, doc('Policy', 'stay-here', { models: { localOnly: true } })]))
    const run = await scene.ask({
      agent: { model: 'away' },
      model: { mock: { replies: [{ text: 'x' }] } },
    })
    expect(run).toMatchObject({
      state: 'failed',
      stepList: [{ failure: { code: 'policy.denied', evidence: { rule: 'policy/stay-here', endpoint: 'away' } } }],
    })
  })
})
