import { beforeEach, describe, expect, test } from 'vitest'
import { CliHarness } from '../testing/cli-harness.ts'

let cli: CliHarness
beforeEach(() => {
  cli = new CliHarness()
})

describe('can-i AGENT TOOL OPERATION', () => {
  test('an allowed call: exit code 0, the rule that decided, and all that was looked at', async () => {
    expect(
      await cli.run(
        'can-i',
        'writer',
        'slack',
        'write',
        '-n',
        'team',
        '--workflow',
        'report',
        '--input-json',
        '{"a":1}',
      ),
    ).toBe(0)
    expect(cli.client.calls).toEqual([
      ['checkAgent', 'team', 'writer', { tool: 'slack', operation: 'write', input: { a: 1 }, workflow: 'report' }],
    ])
    expect(cli.out).toContain('yes  by role/reporter')
    expect(cli.out).toMatch(/role\/reporter\s+permissions\[0\]\s+allow\s+it permits the call/)
  })

  test('a denied one: exit code 1, why, and what would let it pass', async () => {
    cli.client.check = {
      ...cli.client.check,
      verdict: 'deny',
      rule: 'policy/no-deletes',
      code: 'policy.denied',
      reason: 'Agents delete nothing.',
      remediation: 'Change spec.tools.denied[0] of policy/no-deletes, or do without the call.',
    }
    expect(await cli.run('can-i', 'writer', 'slack', 'delete')).toBe(1)
    expect(cli.client.calls).toEqual([['checkAgent', 'default', 'writer', { tool: 'slack', operation: 'delete' }]])
    expect(cli.out).toContain(
      'no  by policy/no-deletes (policy.denied)\n  Agents delete nothing.\n  Change spec.tools.denied[0]',
    )
  })

  test('one that a person decides about: exit code 3, who, and until when', async () => {
    cli.client.check = {
      ...cli.client.check,
      verdict: 'approval',
      rule: 'default',
      approvers: ['lead'],
      expiresMs: 3_600_000,
    }
    expect(await cli.run('can-i', 'writer', 'slack', 'write')).toBe(3)
    expect(cli.out).toContain('a person decides  by default\n  decided by lead, within 1h')
  })

  test('with --model a model that may not be asked is a no as well', async () => {
    const looked = [
      { rule: 'policy/stay-here', part: 'models.localOnly', says: 'deny' as const, why: 'gpt is not local' },
    ]
    const model = {
      endpoint: 'gpt',
      allowed: false,
      rule: 'policy/stay-here',
      reason: 'gpt is not local',
      remediation: 'Use another.',
      looked,
    }
    cli.client.check = { ...cli.client.check, model }
    expect(await cli.run('can-i', 'writer', 'slack', 'write', '--model', 'gpt')).toBe(1)
    expect(cli.out).toContain('model gpt: no by policy/stay-here: gpt is not local\n  Use another.')
    expect(cli.out).toMatch(/policy\/stay-here\s+models\.localOnly\s+deny/)
    const other = new CliHarness()
    other.client.check = cli.client.check
    expect(await other.run('can-i', 'writer', 'slack', 'write', '--model', 'gpt', '-o', 'json')).toBe(1)
    expect(JSON.parse(other.out)).toMatchObject({ verdict: 'allow', model: { allowed: false } })
  })

  test('what cannot be meant is told before anybody is asked', async () => {
    expect(await cli.run('can-i', 'writer', 'slack', 'wrte')).toBe(2)
    expect(cli.err).toContain('Use one of read, write, delete, admin.')
    expect(await cli.run('can-i', 'writer', 'slack', 'write', '--input-json', '[1]')).toBe(2)
    expect(await cli.run('can-i', 'writer', 'slack', 'write', '--input-json', '{')).toBe(2)
    expect(await cli.run('can-i', 'cancel', 'runs', '--model', 'gpt')).toBe(2)
    expect(cli.err).toContain('--model is for can-i AGENT TOOL OPERATION')
    expect(cli.client.calls).toEqual([])
  })
})
