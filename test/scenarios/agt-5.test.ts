import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import { runOrrery } from '../support/processes.ts'
import { startUp } from './rig.ts'

const doc = (kind: string, name: string, spec: JsonObject): JsonObject => ({
  apiVersion: 'orrery.dev/v1',
  kind,
  metadata: { name },
  spec,
})
const yaml = (...documents: JsonObject[]): string =>
  documents.map((document) => JSON.stringify(document)).join('\n---\n')

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
    await up.client.resources.apply(yaml(AWAY, GITHUB, WRITER, REPORTER, NO_DELETES))

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
    await up.client.resources.apply(yaml(doc('Role', 'reporter', more)))
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
    await up.client.resources.apply(yaml(AWAY, doc('Policy', 'stay-here', { models: { localOnly: true } })))
    const { code, stderr } = await runOrrery(['models', 'ask', 'away', 'the secret plan'], { env })
    expect(code).toBe(77)
    expect(stderr).toContain('policy.denied')
    expect(stderr).toContain('policy/stay-here lets no prompt leave')
    const audit = await runOrrery(['audit', '--denied', '-o', 'json'], { env })
    expect(audit.stdout).toContain('policy/stay-here')
    expect(audit.stdout).not.toContain('the secret plan')
  })
})
