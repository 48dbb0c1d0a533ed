import { describe, expect, test } from 'vitest'
import { Failure, failureRecord } from '../domain/failure.ts'
import { reasonOfFailure, waitReason } from '../domain/reasons/reason.ts'
import { CliHarness } from './testing/cli-harness.ts'
import { APPROVAL_ID, approvalView, RUN_ID, runView } from './testing/scripted-client.ts'

describe('orrery runs approve and deny', () => {
  test('find the approval of the step, decide it, and say so', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ state: 'denied', id: 'apr_old' }), approvalView()]
    expect(await cli.run('runs', 'approve', RUN_ID, 'ship', '--comment', 'good', '--inputs', '{"percent": 5}')).toBe(0)
    expect(cli.client.calls).toContainEqual(['approve', APPROVAL_ID, { comment: 'good', inputs: { percent: 5 } }])
    expect(cli.out).toContain('ship is approved by ann')
    const other = new CliHarness()
    other.client.approvals = [approvalView()]
    expect(await other.run('runs', 'deny', RUN_ID, 'ship', '--comment', 'not now')).toBe(0)
    expect(other.client.calls).toContainEqual(['deny', APPROVAL_ID, { comment: 'not now' }])
    expect(other.out).toContain('ship is denied by ann')
  })

  test('a step that waits for none is refused with approval.not_found', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'approve', RUN_ID, 'ship')).toBe(66)
    expect(cli.err).toContain('approval.not_found')
    expect(cli.err).toContain(`orrery runs show ${RUN_ID}`)
  })

  test('a decision that comes second is told who decided', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ state: 'approved' })]
    cli.client.failures.set(
      'approve',
      new Failure('approval.already_decided', `approving ${APPROVAL_ID}`, { evidence: { by: 'ben' } }),
    )
    expect(await cli.run('runs', 'approve', RUN_ID, 'ship')).toBe(1)
    expect(cli.err).toContain('approval.already_decided')
    expect(cli.err).toContain('ben')
  })

  test('inputs that are no JSON object are refused before anything is asked', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'approve', RUN_ID, 'ship', '--inputs', '5')).toBe(2)
    expect(cli.client.calls).toEqual([])
  })
})

describe('orrery approvals list', () => {
  test('shows what waits, what is asked and how to decide it', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ message: 'Ship v2 to everybody?' })]
    expect(await cli.run('approvals', 'list')).toBe(0)
    expect(cli.client.calls).toEqual([['listApprovals', { states: ['pending'], limit: 50 }]])
    expect(cli.out).toContain('Ship v2 to everybody?')
    expect(cli.err).toContain('orrery runs approve RUN STEP')
  })

  test('says when there is none, and refuses a state that does not exist', async () => {
    const cli = new CliHarness()
    expect(await cli.run('approvals', 'list')).toBe(0)
    expect(cli.err).toContain('No approval is pending.')
    expect(await new CliHarness().run('approvals', 'list', '--state', 'open')).toBe(2)
  })
})

describe('orrery approvals show, approve and deny', () => {
  const call = {
    ...{ about: 'call' as const, id: 'c1', agent: 'writer', tool: 'mail', operation: 'write' },
    ...{ input: { to: 'all@example.com' }, edited: null, output: null },
    ...{ rule: 'policy/mailing', reason: 'mail reaches customers' },
  }

  test('show gives the arguments of a call, exactly, and how to decide it', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ call })]
    expect(await cli.run('approvals', 'show', APPROVAL_ID)).toBe(0)
    expect(cli.client.calls).toContainEqual(['getApproval', APPROVAL_ID])
    expect(cli.out).toContain('mail (write)')
    expect(cli.out).toMatch(/rule +policy\/mailing\nreason +mail reaches customers\n/)
    expect(cli.out).toContain('"to": "all@example.com"')
    expect(cli.err).toContain(`orrery approvals approve ${APPROVAL_ID}`)
  })

  test('approve takes other arguments, and what a lost call gave', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ call })]
    expect(await cli.run('approvals', 'approve', APPROVAL_ID, '--input-json', '{"to": "ops@example.com"}')).toBe(0)
    expect(cli.client.calls).toContainEqual(['approve', APPROVAL_ID, { input: { to: 'ops@example.com' } }])
    expect(await cli.run('approvals', 'approve', APPROVAL_ID, '--output-json', '{"sent": true}')).toBe(0)
    expect(cli.client.calls).toContainEqual(['approve', APPROVAL_ID, { output: { sent: true } }])
    expect(await cli.run('approvals', 'deny', APPROVAL_ID, '--comment', 'no')).toBe(0)
    expect(cli.client.calls).toContainEqual(['deny', APPROVAL_ID, { comment: 'no' }])
  })

  test('what the answer to a decision remarks is told', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ call, remark: 'The arguments are checked when box.open is called.' })]
    expect(await cli.run('approvals', 'approve', APPROVAL_ID, '--input-json', '{"to": 1}')).toBe(0)
    expect(cli.err).toContain('The arguments are checked when box.open is called.')
  })

  test('arguments that are no JSON object are refused before anything is asked', async () => {
    const cli = new CliHarness()
    expect(await cli.run('approvals', 'approve', APPROVAL_ID, '--input-json', '[1]')).toBe(2)
    expect(cli.client.calls).toEqual([])
  })

  test('a list with calls says how they are looked at', async () => {
    const cli = new CliHarness()
    cli.client.approvals = [approvalView({ call })]
    expect(await cli.run('approvals', 'list')).toBe(0)
    expect(cli.err).toContain('orrery approvals show APPROVAL')
    const wide = new CliHarness()
    wide.client.approvals = [approvalView({ call })]
    expect(await wide.run('approvals', 'list', '-o', 'wide')).toBe(0)
    expect(wide.out).toMatch(/TOOL +RULE/)
    expect(wide.out).toContain('policy/mailing')
  })
})

describe('orrery runs send and nudge', () => {
  test('send gives the event its payload and key, and says who took it', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'send', RUN_ID, 'paid', '--payload', '{"amount": 12}', '--key', 'order-1')).toBe(0)
    expect(cli.client.calls).toContainEqual([
      'sendEvent',
      RUN_ID,
      { name: 'paid', payload: { amount: 12 } },
      { idempotencyKey: 'order-1' },
    ])
    expect(cli.out).toContain(`paid of ${RUN_ID} took paid`)
  })

  test('nudge says what moved, or what the run waits for and why', async () => {
    const cli = new CliHarness()
    const approval = waitReason('approval', 'waiting for approval', { remediation: 'Decide it.', since: null })
    const failure = failureRecord('dispatch.no_worker', 'waiting 9 s for a worker')
    cli.client.nudged = {
      run: runView({ state: 'waiting' }),
      changed: [],
      waiting: [
        { step: 'ship', state: 'waiting', reason: approval },
        { step: 'build', state: 'queued', reason: reasonOfFailure(failure, null) },
      ],
    }
    expect(await cli.run('runs', 'nudge', RUN_ID)).toBe(0)
    expect(cli.out).toContain('could be moved; it is waiting')
    expect(cli.out).toContain('ship is waiting: waiting for approval')
    expect(cli.out).toContain('dispatch.no_worker')
    cli.client.nudged = { ...cli.client.nudged, changed: [{ of: 'nap', to: 'succeeded' }], waiting: [] }
    expect(await cli.run('runs', 'nudge', RUN_ID)).toBe(0)
    expect(cli.out).toContain('nap is succeeded')
  })
})

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: demo }
spec:
  inputs: { type: object, properties: { n: { type: integer, default: 2 } } }
  steps:
    - { name: build, command: 'true', forEach: '\${{ [1, 2, inputs.n] }}' }
    - { name: ship, approval: Ship it?, needs: [build], if: '\${{ inputs.n > 2 }}' }
`

describe('orrery plan', () => {
  test('shows order, inputs and what would run, without a server', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flow.yaml'] = FLOW
    expect(await cli.run('plan', 'flow.yaml')).toBe(0)
    expect(cli.connects).toEqual([])
    expect(cli.out).toContain('default/demo  2 steps')
    expect(cli.out).toContain('n = 2')
    expect(cli.out).toMatch(/1 +build +command +- +yes, 3 times +any worker with commands/)
    expect(cli.out).toMatch(/2 +ship +approval +build +skipped: if is false: inputs.n > 2 +no worker/)
  })

  test('says of a single step that it is one', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flow.yaml'] = FLOW.replace(/\n.*ship.*\n/, '\n')
    expect(await cli.run('plan', 'flow.yaml')).toBe(0)
    expect(cli.out).toMatch(/default\/demo  1 step\n/)
  })

  test('a manifest or an input that is wrong is refused as orrery run refuses it', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flow.yaml'] = FLOW
    expect(await cli.run('plan', 'flow.yaml', '--input', 'n=many')).toBe(65)
    expect(cli.err).toContain('input.invalid')
    cli.files['/srv/bad.yaml'] = FLOW.replace('approval:', 'aproval:')
    expect(await cli.run('plan', 'bad.yaml')).toBe(65)
    expect(cli.err).toContain('approval')
  })

  test('a step that would fail is named with the reason, and the exit code says so', async () => {
    const cli = new CliHarness()
    cli.files['/srv/flow.yaml'] = FLOW.replace('[1, 2, inputs.n]', 'inputs.list')
    expect(await cli.run('plan', 'flow.yaml')).toBe(1)
    expect(cli.out).toContain('step build would fail')
    expect(cli.out).toContain('inputs.list')
  })
})
