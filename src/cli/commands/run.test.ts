import { describe, expect, test } from 'vitest'
import { Failure, failureRecord } from '../../domain/failure.ts'
import { CliHarness, settle } from '../testing/cli-harness.ts'
import { at, RUN_ID, runView, stepView } from '../testing/scripted-client.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata:
  name: demo
spec:
  modules:
    tools: ./lib/tools.ts
  inputs:
    type: object
    additionalProperties: false
    properties:
      count: { type: integer }
      deep: { type: boolean }
      city: { type: string }
      any: {}
  steps:
    - name: fetch
      command: [echo, hi]
    - name: build
      needs: [fetch]
      command: [make]
`
const steps = [stepView({ name: 'fetch' }), stepView({ name: 'build', needs: ['fetch'] })]

function started(): CliHarness {
  const cli = new CliHarness()
  cli.files['/srv/flows/flow.yaml'] = FLOW
  cli.client.runs = [
    runView({ stepList: steps }),
    runView({
      state: 'succeeded',
      startedAt: at(0),
      endedAt: at(1500),
      stepList: [
        stepView({ name: 'fetch', state: 'succeeded', startedAt: at(0), endedAt: at(120) }),
        stepView({
          name: 'build',
          needs: ['fetch'],
          state: 'succeeded',
          startedAt: at(120),
          endedAt: at(1500),
          output: { size: 7 },
        }),
      ],
    }),
  ]
  return cli
}

function emitSuccess(cli: CliHarness): void {
  const { client } = cli
  client.emit(0, [{ of: 'run', to: 'running' }])
  client.emit(5, [{ of: 'fetch', to: 'running', worker: 'w' }])
  client.emit(125, [
    { of: 'fetch', to: 'succeeded' },
    { of: 'build', to: 'queued' },
  ])
  client.emit(130, [{ of: 'build', to: 'running', worker: 'w' }])
  client.emit(
    1500,
    [
      { of: 'build', to: 'succeeded' },
      { of: 'run', to: 'succeeded' },
    ],
    { terminal: true },
  )
}

function failed(): CliHarness {
  const cli = started()
  const failure = failureRecord('step.exit_nonzero', 'running step build', {
    evidence: { exitCode: 2, tail: 'a\nb\n' },
  })
  cli.client.runs = [
    runView({ stepList: steps }),
    runView({
      state: 'failed',
      startedAt: at(0),
      endedAt: at(1500),
      steps: { total: 2, open: 0, bad: 1 },
      failure: failureRecord('run.failed', `running ${RUN_ID}`),
      stepList: [
        stepView({ name: 'fetch', state: 'succeeded' }),
        stepView({ name: 'build', state: 'failed', needs: ['fetch'], failure }),
      ],
    }),
  ]
  cli.client.emit(
    9,
    [
      { of: 'build', to: 'failed', code: 'step.exit_nonzero' },
      { of: 'run', to: 'failed' },
    ],
    {
      terminal: true,
    },
  )
  return cli
}

function canceled(cli: CliHarness): void {
  cli.client.runs = [runView({ state: 'canceled', startedAt: at(0), endedAt: at(50), stepList: steps })]
  cli.client.emit(50, [{ of: 'run', to: 'canceled' }], { terminal: true })
}

describe('orrery run, piped', () => {
  test('prints a line for each change, then outputs and outcome', async () => {
    const cli = started()
    emitSuccess(cli)
    expect(await cli.run('run', 'flows/flow.yaml')).toBe(0)
    expect(cli.out).toBe(
      [
        `${RUN_ID}  demo`,
        '12:00:00.000  run                   running',
        '12:00:00.005  fetch                 running',
        '12:00:00.125  fetch                 succeeded    120ms',
        '12:00:00.125  build                 queued',
        '12:00:00.130  build                 running',
        '12:00:01.500  build                 succeeded     1.4s',
        '12:00:01.500  run                   succeeded     1.5s',
        'build  {"size":7}',
        `${RUN_ID}  succeeded  1.5s`,
        '',
      ].join('\n'),
    )
    expect(cli.closed).toBe(1)
    expect(cli.listeners).toBe(0)
  })

  test('modules are resolved against the manifest, the engine is started as flags say', async () => {
    const cli = started()
    emitSuccess(cli)
    await cli.run(
      'run',
      'flows/flow.yaml',
      '--data-dir',
      'd',
      '--capacity',
      '2',
      '--idempotency-key',
      'k',
      '--tool-files',
      't',
    )
    expect(cli.embedded).toEqual([
      {
        store: { kind: 'embedded' },
        dataDir: '/srv/d',
        secrets: { keyFile: null, dir: null, envPrefix: 'ORRERY_SECRET_' },
        modules: { tools: '/srv/flows/lib/tools.ts' },
        programs: { files: '/srv/t', hostCommands: [] },
        capacity: 2,
        labels: {},
      },
    ])
    expect(cli.client.calls[0]).toEqual([
      'createRun',
      { manifest: FLOW, inputs: {}, labels: {} },
      { idempotencyKey: 'k' },
    ])
  })

  test('a failed run shows the failing step and gives the exit code of its failure', async () => {
    const cli = failed()
    expect(await cli.run('run', 'flows/flow.yaml')).toBe(1)
    expect(cli.out).toContain(
      [
        '',
        'step build',
        '✗ step.exit_nonzero  The command ended with a non-zero exit code',
        '  running step build',
        '  exitCode  2',
        '  tail',
        '    │ a',
        '    │ b',
        '  → Read the last lines of output shown with the failure.',
        `    orrery runs show ${RUN_ID}`,
        `    orrery runs logs ${RUN_ID} --step build`,
        '    orrery explain step.exit_nonzero',
        '',
        `${RUN_ID}  failed  1.5s`,
        '',
      ].join('\n'),
    )
  })

  test('with --json every event is a line and the last one is the outcome', async () => {
    const cli = failed()
    expect(await cli.run('run', 'flows/flow.yaml', '--json')).toBe(1)
    expect(cli.jsonLines.map((line) => (line as { type: string }).type)).toEqual(['run', 'event', 'outcome'])
    expect(cli.jsonLines.at(-1)).toMatchObject({
      runId: RUN_ID,
      state: 'failed',
      exit: 1,
      durationMs: 1500,
      failure: { code: 'run.failed' },
      failedSteps: [{ name: 'build', failure: { code: 'step.exit_nonzero' } }],
    })
    expect(cli.err).toBe('')
  })
})

describe('orrery run, inputs', () => {
  const inputsOf = (cli: CliHarness) => (cli.client.calls[0]?.[1] as { inputs: unknown } | undefined)?.inputs

  test('are JSON where the schema wants it, text elsewhere', async () => {
    const cli = started()
    emitSuccess(cli)
    cli.files['/srv/in.json'] = '{"city":"Bergen","count":1}'
    cli.files['/srv/letter'] = 'Dear\n'
    const inputs = ['count=3', 'deep=true', 'any=@letter'].flatMap((pair) => ['--input', pair])
    expect(await cli.run('run', 'flows/flow.yaml', '--inputs', 'in.json', ...inputs)).toBe(0)
    expect(inputsOf(cli)).toEqual({ city: 'Bergen', count: 3, deep: true, any: 'Dear\n' })
  })

  test('a number stays text where the schema says text', async () => {
    const cli = started()
    emitSuccess(cli)
    await cli.run('run', 'flows/flow.yaml', '--input', 'city=42')
    expect(inputsOf(cli)).toEqual({ city: '42' })
  })

  test('wrong ones are told all at once, before anything starts', async () => {
    const cli = started()
    const inputs = ['count=many', 'cuont=1', 'nothing'].flatMap((pair) => ['--input', pair])
    expect(await cli.run('run', 'flows/flow.yaml', ...inputs)).toBe(65)
    expect(cli.err).toContain('reading the inputs: 3 problems')
    expect(cli.err).toContain('"many" is not of type integer')
    expect(cli.err).toContain('did you mean "count"?')
    expect(cli.err).toContain('must have the form name=value')
    expect(cli.embedded).toEqual([])
  })

  test('files that are missing or no JSON object are named', async () => {
    const cli = started()
    cli.files['/srv/list.json'] = '[1]'
    cli.files['/srv/broken.json'] = '{'
    expect(await cli.run('run', 'flows/flow.yaml', '--input', 'any=@nope')).toBe(66)
    expect(await cli.run('run', 'flows/flow.yaml', '--inputs', 'list.json')).toBe(65)
    expect(await cli.run('run', 'flows/flow.yaml', '--inputs', 'broken.json')).toBe(65)
    expect(cli.err).toContain('/srv/nope')
    expect(cli.err).toContain('must be one JSON object')
  })
})

describe('orrery run, before the run', () => {
  test('problems of the manifest have a place and a caret', async () => {
    const cli = started()
    cli.files['/srv/bad.yaml'] = FLOW.replace('needs: [fetch]', 'need: [fetch]')
    expect(await cli.run('run', 'bad.yaml')).toBe(65)
    expect(cli.err).toMatch(/bad\.yaml:20:7 {2}/)
    expect(cli.err).toContain('20 |       need: [fetch]\n       |       ^\n')
    expect(cli.err).toContain('needs')
    expect(cli.embedded).toEqual([])
  })

  test('a manifest may come from standard input', async () => {
    const cli = started()
    cli.stdinText = FLOW
    emitSuccess(cli)
    expect(await cli.run('run', '-')).toBe(0)
    expect(cli.embedded[0]?.modules).toEqual({ tools: '/srv/lib/tools.ts' })
  })

  test('a file that is not there is named', async () => {
    const cli = new CliHarness()
    expect(await cli.run('run', 'nope.yaml')).toBe(66)
    expect(cli.err).toContain('/srv/nope.yaml')
  })

  test('--detach leaves the run to a server and prints its id', async () => {
    const cli = started()
    expect(await cli.run('run', 'flows/flow.yaml', '--detach')).toBe(0)
    expect(cli.out).toBe(`${RUN_ID}\n`)
    expect(cli.embedded).toEqual([])
    expect(cli.connects).toEqual([{}])
  })

  test('a server in the environment is used; flags of a store win over it', async () => {
    const cli = started()
    cli.env = { ORRERY_SERVER: 'http://s' }
    emitSuccess(cli)
    await cli.run('run', 'flows/flow.yaml')
    expect(cli.connects).toHaveLength(1)
    const local = started()
    local.env = cli.env
    emitSuccess(local)
    await local.run('run', 'flows/flow.yaml', '--data-dir', 'd')
    expect(local.embedded).toHaveLength(1)
  })

  test('a server and a store of its own exclude each other', async () => {
    const cli = started()
    expect(await cli.run('run', 'flows/flow.yaml', '--server', 'http://s', '--data-dir', 'd')).toBe(2)
    expect(cli.err).toContain('--data-dir cannot be used together with --server')
  })

  test('data that another orrery holds: the remedy is its server', async () => {
    const cli = started()
    cli.startFailure = new Failure('storage.locked', 'opening /data', { evidence: { pid: 7 } })
    expect(await cli.run('run', 'flows/flow.yaml')).toBe(78)
    expect(cli.err).toContain('--server URL')
    expect(cli.err).toContain('pid  7')
  })

  test('a timeout that is no duration is refused', async () => {
    const cli = started()
    expect(await cli.run('run', 'flows/flow.yaml', '--timeout', 'soon')).toBe(2)
    expect(cli.err).toContain('30s, 5m or 1h30m')
  })
})

describe('orrery run, interrupted', () => {
  test('the first interrupt cancels the run and waits for its end', async () => {
    const cli = started()
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.signal()
    await settle(() => cli.client.calls.some(([name]) => name === 'cancelRun'))
    expect(cli.err).toContain('canceling…')
    canceled(cli)
    expect(await running).toBe(3)
    expect(cli.out).toContain(`${RUN_ID}  canceled  50ms`)
    expect(cli.closed).toBe(1)
  })

  test('the second one leaves', async () => {
    const cli = started()
    const running = cli.run('run', 'flows/flow.yaml', '--server', 'http://s')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.signal()
    cli.signal()
    expect(await running).toBe(130)
    expect(cli.err).toContain(`orrery runs show ${RUN_ID}`)
    expect(cli.listeners).toBe(0)
  })

  test('a run that ended before the cancel came keeps its end', async () => {
    const cli = started()
    cli.client.failures.set('cancelRun', new Failure('run.finished', 'canceling'))
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.signal()
    await settle(() => cli.client.calls.some(([name]) => name === 'cancelRun'))
    emitSuccess(cli)
    expect(await running).toBe(0)
    expect(cli.err).not.toContain('could not be canceled')
  })

  test('a run that is not done in time is canceled, with an exit code of its own', async () => {
    const cli = started()
    const running = cli.run('run', 'flows/flow.yaml', '--timeout', '5s', '--json')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.clock.advance(5_000)
    await settle(() => cli.client.calls.some(([name]) => name === 'cancelRun'))
    canceled(cli)
    expect(await running).toBe(124)
    expect(cli.jsonLines.at(-1)).toMatchObject({ state: 'canceled', exit: 124, failure: { code: 'run.timed_out' } })
  })

  test('a stream that fails gives the failure and closes the engine', async () => {
    const cli = started()
    cli.client.failures.set('followEvents', new Failure('client.server_unreachable', 'following'))
    expect(await cli.run('run', 'flows/flow.yaml')).toBe(69)
    expect(cli.closed).toBe(1)
  })
})

describe('orrery run on a terminal', () => {
  const frames = (cli: CliHarness) =>
    // eslint-disable-next-line no-control-regex -- the frames are parted by what moves the cursor
    cli.out.split(/\x1b\[\d+A\r|\x1b\[\?25[lh]/).map((frame) => frame.replaceAll('\x1b[K', '').replaceAll('\x1b[J', ''))

  test('draws the tree in place and leaves the last state', async () => {
    const cli = started()
    cli.tty = true
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.client.emit(0, [
      { of: 'fetch', to: 'running' },
      { of: 'run', to: 'running' },
    ])
    await settle(() => {
      cli.clock.advance(84)
      return cli.out.includes('fetch  running')
    })
    emitSuccess(cli)
    expect(await running).toBe(0)
    const drawn = frames(cli)
    expect(drawn[1]).toBe(`demo  ${RUN_ID}  pending  0ms\n├─ · fetch  pending\n└─ · build  pending\n`)
    expect(drawn.at(-2)).toBe(
      `demo  ${RUN_ID}  succeeded  1.5s\n├─ ✓ fetch  succeeded    120ms\n└─ ✓ build  succeeded     1.4s\n`,
    )
    expect(drawn.at(-1)).toBe(`build  {"size":7}\n${RUN_ID}  succeeded  1.5s\n`)
    expect(cli.out.split('\x1b[?25l')).toHaveLength(2)
    expect(cli.out.split('\x1b[?25h')).toHaveLength(2)
  })

  test('writes nothing while nothing changes, and no more than twelve frames a second', async () => {
    const cli = started()
    cli.tty = true
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.out !== '')
    const before = cli.out
    for (let i = 0; i < 100; i++) cli.client.emit(1, [{ of: 'fetch', to: 'queued' }])
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    expect(cli.out).toBe(before)
    emitSuccess(cli)
    await running
    expect(frames(cli).length).toBeLessThan(6)
  })

  test('a narrow and low window gets lines that fit', async () => {
    const cli = started()
    Object.assign(cli, { tty: true, columns: 20, rows: 3 })
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.out !== '')
    for (const line of frames(cli).join('').split('\n')) expect(line.length).toBeLessThan(20)
    emitSuccess(cli)
    expect(await running).toBe(0)
  })

  test('leaving gives the cursor back', async () => {
    const cli = started()
    cli.tty = true
    cli.colour = true
    const running = cli.run('run', 'flows/flow.yaml')
    await settle(() => cli.client.calls.some(([name]) => name === 'followEvents'))
    cli.signal()
    cli.signal()
    expect(await running).toBe(130)
    expect(cli.out.endsWith('\x1b[?25h')).toBe(true)
    expect(cli.out).toContain('\x1b[1mdemo\x1b[22m')
  })
})
