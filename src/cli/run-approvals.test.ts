import { describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { CliHarness, settle } from './testing/cli-harness.ts'
import { APPROVAL_ID, approvalView, at, RUN_ID, runView, stepView } from './testing/scripted-client.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: demo }
spec:
  steps:
    - { name: ship, approval: 'Ship it?' }
`

const waitsFor = (on: string) => ({ kind: 'child' as const, on, until: null })

/** A run whose only step asks; it ends when the test says so. */
function asking(): CliHarness {
  const cli = new CliHarness()
  cli.files['/srv/flow.yaml'] = FLOW
  cli.client.runs = [runView({ stepList: [stepView({ name: 'ship', kind: 'approval' })] })]
  cli.client.approvals = [approvalView()]
  cli.client.emit(5, [{ of: 'ship', to: 'waiting' }])
  return cli
}

function end(cli: CliHarness): void {
  cli.client.runs = [runView({ state: 'succeeded', startedAt: at(0), endedAt: at(9) })]
  cli.client.emit(9, [{ of: 'run', to: 'succeeded' }], { terminal: true })
}

const asked = (cli: CliHarness, method: string): unknown[][] => cli.client.calls.filter(([name]) => name === method)

describe('orrery run and what is asked of people', () => {
  test('--yes approves each approval once and shows it', async () => {
    const cli = asking()
    const running = cli.run('run', 'flow.yaml', '--yes')
    await settle(() => asked(cli, 'approve').length > 0)
    // Something else begins to wait: what was approved is not approved again.
    cli.client.emit(7, [{ of: 'ship', to: 'waiting' }])
    await settle(() => asked(cli, 'listApprovals').length > 1)
    end(cli)
    expect(await running).toBe(0)
    expect(asked(cli, 'approve')).toEqual([['approve', APPROVAL_ID, {}]])
    expect(cli.out).toContain(`ship of ${RUN_ID} is approved: Ship it?`)
  })

  test('what other steps wait for asks the server nothing', async () => {
    const cli = asking()
    cli.client.runs = [runView({ stepList: [stepView({ name: 'nap', kind: 'wait' })] })]
    cli.client.emit(6, [{ of: 'nap', to: 'waiting' }])
    end(cli)
    cli.client.runs = [runView({ stepList: [stepView({ name: 'nap', kind: 'wait' })] }), ...cli.client.runs]
    expect(await cli.run('run', 'flow.yaml', '--yes')).toBe(0)
    expect([...asked(cli, 'listApprovals'), ...asked(cli, 'listSteps')]).toEqual([])
  })

  test('looking that fails is told once, and the run is followed all the same', async () => {
    const cli = asking()
    cli.client.failures.set('listApprovals', new Failure('client.forbidden', 'listing approvals'))
    const running = cli.run('run', 'flow.yaml', '--yes')
    await settle(() => cli.err !== '')
    cli.client.emit(7, [{ of: 'ship', to: 'waiting' }])
    await settle(() => asked(cli, 'listApprovals').length > 1)
    end(cli)
    expect(await running).toBe(0)
    expect(cli.err.match(/looking for approvals failed/g)).toHaveLength(1)
  })

  const away = new Failure('client.server_unreachable', 'asking', { remediation: 'Wait.' })
  /** Lets time pass until it is so: what waits for the server asks again. */
  const passing = (cli: CliHarness, check: () => boolean): Promise<void> =>
    settle(() => {
      cli.clock.advance(1_000)
      return check()
    })

  test.for(['listApprovals', 'listSteps', 'approve'] as const)(
    '--yes outlasts a server that is away for a while at %s, though no event comes any more',
    async (method) => {
      const cli = asking()
      cli.client.failures.set(method, away)
      const running = cli.run('run', 'flow.yaml', '--yes')
      await passing(cli, () => asked(cli, method).length > 1)
      cli.client.failures.delete(method)
      const failed = asked(cli, method).length
      await passing(cli, () => asked(cli, method).length > failed && cli.out.includes('is approved'))
      end(cli)
      expect(await running).toBe(0)
      expect(cli.err).toBe('')
    },
  )

  test('--yes outlasts a server that is away when it begins to follow a run below', async () => {
    const cli = asking()
    const { client } = cli
    client.approvals = []
    client.steps = [stepView({ name: 'ship', kind: 'workflow', state: 'waiting', waitsOn: waitsFor('run_below') })]
    const { getRun } = client
    let isAway = true
    client.getRun = async (runId) => {
      const run = await getRun(runId)
      if (runId === 'run_below' && isAway) throw away
      return run
    }
    const below = () => asked(cli, 'getRun').filter(([, id]) => id === 'run_below').length
    const running = cli.run('run', 'flow.yaml', '--yes')
    await passing(cli, () => below() > 1)
    isAway = false
    client.approvals = [approvalView({ id: 'apr_below', run: 'run_below', step: 'sure' })]
    await passing(cli, () => asked(cli, 'approve').length > 0)
    end(cli)
    expect(await running).toBe(0)
    expect(cli.err).toBe('')
  })

  test('a server that stays away is told of in the end', async () => {
    const cli = asking()
    cli.client.failures.set('listApprovals', away)
    const running = cli.run('run', 'flow.yaml', '--yes')
    await passing(cli, () => cli.err.includes('looking for approvals failed'))
    end(cli)
    expect(await running).toBe(0)
  })

  test('--yes approves what is asked later, and what runs below ask', async () => {
    const cli = asking()
    const { client } = cli
    client.approvals = []
    client.steps = [
      stepView({ name: 'ship', kind: 'workflow', state: 'waiting', waitsOn: waitsFor('run_other run_below') }),
    ]
    const listed = client.listApprovals
    client.listApprovals = (...args: unknown[]) => {
      const { run } = args[0] as { run: string }
      client.approvals = run === 'run_below' ? [approvalView({ id: 'apr_below', run, step: 'sure' })] : []
      return listed(...args)
    }
    const running = cli.run('run', 'flow.yaml', '--yes')
    await settle(() => asked(cli, 'approve').length > 0)
    end(cli)
    expect(await running).toBe(0)
    expect(asked(cli, 'approve')).toEqual([['approve', 'apr_below', {}]])
    expect(cli.out).toContain('sure of run_below is approved')
  })

  test('--yes goes on when somebody else decided first, and says what it could not decide', async () => {
    for (const code of ['approval.already_decided', 'approval.not_eligible'] as const) {
      const cli = asking()
      cli.client.failures.set('approve', new Failure(code, 'approving'))
      const running = cli.run('run', 'flow.yaml', '--yes')
      await settle(() => asked(cli, 'approve').length > 0)
      end(cli)
      expect(await running).toBe(0)
      if (code === 'approval.already_decided') expect(cli.err).toBe('')
      else expect(cli.err).toContain(`orrery runs approve ${RUN_ID} ship`)
    }
  })

  test('piped, it says which command decides; without a server, that none can', async () => {
    for (const [flags, told] of [
      [['--server', 'http://there.example'], `orrery runs approve ${RUN_ID} ship`],
      [[], 'run it with --yes'],
    ] as const) {
      const cli = asking()
      const running = cli.run('run', 'flow.yaml', ...flags)
      await settle(() => cli.out.includes('asks: Ship it?'))
      end(cli)
      expect(await running).toBe(0)
      expect(cli.out).toContain(told)
      expect([...asked(cli, 'approve'), ...asked(cli, 'deny')]).toEqual([])
    }
  })

  test('for programs the approval is a line of JSON', async () => {
    const cli = asking()
    const running = cli.run('run', 'flow.yaml', '--json')
    await settle(() => cli.out.includes('"approval"'))
    end(cli)
    expect(await running).toBe(0)
    expect(cli.jsonLines).toContainEqual({ type: 'approval', approval: approvalView() })
  })

  test.for([
    ['y', 'approve', 'approved'],
    ['no', 'deny', 'denied'],
    ['', null, 'left open'],
    ['maybe', null, 'left open'],
  ] as const)('on a terminal %j is taken as an answer', async ([typed, method, told]) => {
    const cli = asking()
    cli.tty = true
    cli.typed = [typed]
    const running = cli.run('run', 'flow.yaml')
    await settle(() => cli.out.includes(told))
    end(cli)
    expect(await running).toBe(0)
    expect(cli.err).toContain('[y/N]')
    expect(cli.client.calls.filter(([name]) => name === 'approve' || name === 'deny').map(([name]) => name)).toEqual(
      method === null ? [] : [method],
    )
  })

  const call = {
    about: 'call' as const,
    id: 'c1',
    agent: 'writer',
    tool: 'mail',
    operation: 'write' as const,
    input: { to: 'ann', text: 'a\u001b[31mb' },
    edited: null,
    output: null,
    rule: 'default',
    reason: null,
  }
  /** A run whose only step is of a kind that calls tools, and waits for a person. */
  function calling(kind: 'agent' | 'tool', about: 'call' | 'outcome' = 'call'): CliHarness {
    const cli = asking()
    cli.client.runs = [runView({ stepList: [stepView({ name: 'ship', kind })] })]
    cli.client.approvals = [approvalView({ message: 'writer wants to call mail', call: { ...call, about } })]
    return cli
  }

  test.for(['agent', 'tool'] as const)('--yes approves calls of a step that is a %s', async (kind) => {
    const cli = calling(kind)
    const running = cli.run('run', 'flow.yaml', '--yes')
    await settle(() => asked(cli, 'approve').length > 0)
    end(cli)
    expect(await running).toBe(0)
    expect(asked(cli, 'approve')).toEqual([['approve', APPROVAL_ID, {}]])
  })

  test('a call is shown with its arguments before anybody is asked, and by the id that decides it', async () => {
    const cli = calling('agent')
    cli.tty = true
    cli.typed = ['']
    const running = cli.run('run', 'flow.yaml', '--server', 'http://there.example')
    await settle(() => cli.out.includes('left open'))
    end(cli)
    expect(await running).toBe(0)
    expect(cli.out).toContain('mail {"to":"ann","text":"a\\u001b[31mb"}')
    expect(cli.out).toContain(`orrery approvals approve ${APPROVAL_ID}, or orrery approvals deny ${APPROVAL_ID}`)
  })

  test('--yes makes no call again whose outcome is not known: a person decides that', async () => {
    const cli = calling('agent', 'outcome')
    const running = cli.run('run', 'flow.yaml', '--yes', '--server', 'http://there.example')
    await settle(() => cli.out.includes('orrery approvals approve'))
    end(cli)
    expect(await running).toBe(0)
    expect(asked(cli, 'approve')).toEqual([])
  })

  test('--yes and --detach do not go together', async () => {
    const cli = asking()
    expect(await cli.run('run', 'flow.yaml', '--yes', '--detach')).toBe(2)
    expect(cli.err).toContain('--yes cannot be used together with --detach')
  })
})
