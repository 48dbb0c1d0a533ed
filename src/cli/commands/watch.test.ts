import { describe, expect, test } from 'vitest'
import { failureRecord } from '../../domain/failure.ts'
import { CliHarness, settle } from '../testing/cli-harness.ts'
import { at, RUN_ID, runView, stepView } from '../testing/scripted-client.ts'

const running = runView({ state: 'running', stepList: [stepView()] })
const succeeded = runView({ state: 'succeeded', startedAt: at(0), endedAt: at(40), stepList: [stepView()] })
const failed = runView({
  state: 'failed',
  startedAt: at(0),
  endedAt: at(40),
  failure: failureRecord('step.exit_nonzero', 'running step build'),
})

describe('watching a run', () => {
  test('it is followed to its end and the exit code is its outcome', async () => {
    const cli = new CliHarness()
    cli.client.runs = [running, failed]
    cli.client.emit(10, [{ of: 'build', to: 'running' }])
    cli.client.emit(40, [{ of: 'run', to: 'failed' }], { terminal: true })
    expect(await cli.run('runs', 'watch', RUN_ID)).toBe(1)
    expect(cli.out).toContain('build')
    expect(cli.out).toContain('failed')
    expect(cli.out).toContain('step.exit_nonzero')
    expect(cli.listeners).toBe(0)
  })

  const stuck = runView({
    state: 'running',
    stepList: [
      stepView({
        name: 'gpu',
        state: 'queued',
        reason: {
          code: 'dispatch.requirements_unmet',
          message: 'waiting 3 s for a worker',
          evidence: {
            requirements: ['label gpu=A100'],
            workers: [{ worker: 'w1', state: 'live', lacks: ['label gpu=A100'] }],
          },
          remediation: 'Start a worker that has what is missing.',
          retryable: true,
          since: at(0),
        },
      }),
    ],
  })

  test.each([
    {
      tty: false,
      flags: [],
      shows: [/step gpu is queued/, /w1 +live +no/, new RegExp(`orrery explain step/${RUN_ID}/gpu`)],
    },
    { tty: true, flags: [], shows: [/gpu .*dispatch\.requirements_unmet: waiting 3 s/] },
    { tty: false, flags: ['--json'], shows: [/"type":"reason".*"step":"gpu".*"code":"dispatch.requirements_unmet"/] },
  ])('one that stands still says why: terminal $tty, $flags', async ({ tty, flags, shows }) => {
    const cli = new CliHarness()
    cli.tty = tty
    cli.columns = 160
    cli.client.runs = [stuck]
    const done = cli.run('runs', 'watch', RUN_ID, ...flags)
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    await settle(() => {
      cli.clock.advance(500)
      return shows.every((pattern) => pattern.test(cli.out))
    })
    for (const pattern of shows) expect(cli.out).toMatch(pattern)
    cli.signal()
    expect(await done).toBe(130)
  })

  test('leaving it cancels nothing', async () => {
    const cli = new CliHarness()
    cli.client.runs = [running]
    const done = cli.run('runs', 'watch', RUN_ID)
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.signal()
    expect(await done).toBe(130)
    expect(cli.err).toContain(`left; ${RUN_ID} goes on: orrery runs watch ${RUN_ID}`)
    expect(cli.client.calls.map(([name]) => name)).not.toContain('cancelRun')
  })

  test('--timeout ends with a failure of its own, as timeout(1) does', async () => {
    const cli = new CliHarness()
    cli.client.runs = [running]
    const done = cli.run('runs', 'watch', RUN_ID, '--timeout', '5s')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.clock.advance(5_000)
    expect(await done).toBe(124)
    expect(cli.err).toContain('client.wait_timed_out')
  })

  test('--json tells the run, its events and the outcome', async () => {
    const cli = new CliHarness()
    cli.client.runs = [running, succeeded]
    cli.client.emit(40, [{ of: 'run', to: 'succeeded' }], { terminal: true })
    expect(await cli.run('runs', 'watch', RUN_ID, '--json')).toBe(0)
    expect(cli.jsonLines).toMatchObject([
      { type: 'run' },
      { type: 'event', seq: 1 },
      { type: 'outcome', state: 'succeeded', exit: 0, durationMs: 40 },
    ])
  })
})

describe('waiting for runs', () => {
  test('one line a run, and the exit code of the first bad one', async () => {
    const cli = new CliHarness()
    cli.client.runs = [succeeded, failed]
    cli.client.emit(40, [{ of: 'run', to: 'succeeded' }], { terminal: true })
    expect(await cli.run('runs', 'wait', RUN_ID, `${RUN_ID.slice(0, -1)}1`)).toBe(1)
    expect(cli.out.trimEnd().split('\n')).toEqual([
      `${RUN_ID}  succeeded`,
      expect.stringMatching(/failed {2}step\.exit_nonzero$/),
    ])
  })

  test.for([
    ['succeeded', succeeded, 0],
    ['failed', failed, 0],
    ['succeeded', failed, 1],
    ['failed', succeeded, 1],
    ['running', succeeded, 1],
  ] as const)('--for %s: an end as wanted is success, another is not', async ([wanted, run, exit]) => {
    const cli = new CliHarness()
    cli.client.runs = [run]
    cli.client.emit(40, [{ of: 'run', to: run.state }], { terminal: true })
    expect(await cli.run('runs', 'wait', RUN_ID, '--for', wanted, '--json')).toBe(exit)
    expect(cli.jsonLines).toMatchObject([{ runId: RUN_ID, state: run.state, exit }])
  })

  test('--for waiting ends as soon as the run waits', async () => {
    const cli = new CliHarness()
    cli.client.runs = [running]
    cli.client.emit(10, [{ of: 'build', to: 'running' }])
    const done = cli.run('runs', 'wait', RUN_ID, '--for', 'waiting')
    await settle(() => cli.client.calls.some(([name]) => name === 'getRun'))
    cli.client.runs = [{ ...running, state: 'waiting' }]
    cli.client.emit(20, [{ of: 'build', to: 'waiting' }])
    expect(await done).toBe(0)
    expect(cli.out).toContain(`${RUN_ID}  waiting`)
  })

  test('--for what no run can be is refused', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'wait', RUN_ID, '--for', 'suceeded')).toBe(2)
    expect(cli.err).toContain('Did you mean succeeded?')
    expect(cli.client.calls).toEqual([])
  })

  test('a time that is over names the runs that are still open', async () => {
    const cli = new CliHarness()
    const done = cli.run('runs', 'wait', RUN_ID, '--timeout', '1m')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.clock.advance(60_000)
    expect(await done).toBe(124)
    expect(cli.err).toContain(`waiting for ${RUN_ID}`)
  })

  test.each(['0s', 'soon'])('--timeout %s is refused before anything is asked', async (timeout) => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'wait', RUN_ID, '--timeout', timeout)).toBe(2)
    expect(cli.client.calls).toEqual([])
  })
})

describe('events of a run', () => {
  const withEvents = () => {
    const cli = new CliHarness()
    cli.client.runs = [running]
    cli.client.emit(10, [{ of: 'build', to: 'running' }])
    cli.client.emit(30, [{ of: 'build', to: 'succeeded' }])
    return cli
  }

  test('are told a line a change, with how long a step took', async () => {
    const cli = withEvents()
    cli.client.emit(40, [{ of: 'run', to: 'succeeded' }], { terminal: true })
    expect(await cli.run('events', RUN_ID)).toBe(0)
    expect(cli.out).toMatch(/build +succeeded +20ms/)
  })

  test('--once prints what is there and leaves', async () => {
    const cli = withEvents()
    expect(await cli.run('events', RUN_ID, '--once', '--raw')).toBe(0)
    expect(cli.jsonLines).toEqual([
      { seq: 1, at: at(10), changes: [{ of: 'build', to: 'running' }] },
      { seq: 2, at: at(30), changes: [{ of: 'build', to: 'succeeded' }] },
    ])
  })

  test('--after leaves out what was seen, and a step that began before still tells how long it took', async () => {
    const cli = withEvents()
    expect(await cli.run('events', RUN_ID, '--once', '--after', '1')).toBe(0)
    expect(cli.out).not.toContain('running')
    expect(cli.out).toMatch(/succeeded +20ms/)
  })

  test('--timeout is a time to read for, not a failure', async () => {
    const cli = withEvents()
    const done = cli.run('events', RUN_ID, '--timeout', '2s')
    await settle(() => cli.out.includes('succeeded'))
    cli.clock.advance(2_000)
    expect(await done).toBe(0)
  })
})
