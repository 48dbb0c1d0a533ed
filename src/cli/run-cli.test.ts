import { describe, expect, test } from 'vitest'
import { Failure, failureRecord } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'
import { CliHarness, settle } from './testing/cli-harness.ts'
import { at, RUN_ID, runView, stepView } from './testing/scripted-client.ts'

describe('the command line', () => {
  test('every command has a description and examples', async () => {
    const commands = [
      [],
      ['run'],
      ['up'],
      ['worker'],
      ['runs'],
      ...['list', 'show', 'watch', 'wait', 'logs', 'cancel', 'retry', 'skip'].map((name) => ['runs', name]),
      ...['list', 'get'].map((name) => ['artifacts', name]),
      ...['artifacts', 'events', 'status', 'top', 'init', 'completion'].map((name) => [name]),
      ...['approve', 'deny', 'send', 'nudge'].map((name) => ['runs', name]),
      ['plan'],
      ['approvals'],
      ['approvals', 'list'],
      ['workers'],
      ['workers', 'list'],
      ...['apply', 'validate', 'diff', 'get', 'describe', 'edit', 'delete'].map((name) => [name]),
      ['explain'],
      ['version'],
    ]
    for (const command of commands) {
      const cli = new CliHarness()
      expect(await cli.run(...command, '--help')).toBe(0)
      expect(cli.out).toContain(`Usage: orrery${command.length > 0 ? ` ${command.join(' ')}` : ''}`)
      expect(cli.out).toMatch(/\n\n[A-Z][^]*?\.\n\n/)
      expect(cli.out).toContain('Examples:\n  $ orrery ')
      expect(cli.err).toBe('')
    }
  })

  test('orrery alone prints its help', async () => {
    const cli = new CliHarness()
    expect(await cli.run()).toBe(0)
    expect(cli.out).toContain('Usage: orrery')
  })

  test('a group alone prints its help and is no success', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs')).toBe(2)
    expect(cli.err).toContain('Usage: orrery runs')
  })

  test('an unknown command is answered with the nearest one', async () => {
    const cli = new CliHarness()
    expect(await cli.run('rnu', 'flow.yaml')).toBe(2)
    expect(cli.err).toBe(
      [
        '✗ request.invalid  The request is not understood',
        "  unknown command 'rnu'",
        '  → Did you mean run? orrery --help shows what it takes.',
        '',
      ].join('\n'),
    )
    const deeper = new CliHarness()
    expect(await deeper.run('runs', 'cancle', 'x')).toBe(2)
    expect(deeper.err).toContain('Did you mean cancel? orrery runs --help shows what it takes.')
  })

  test('an unknown option, a missing argument and one too many are told the same way', async () => {
    const cases: [string[], string][] = [
      [['up', '--prot', '1'], "unknown option '--prot'"],
      [['runs', 'show'], "missing required argument 'run'"],
      [['runs', 'skip', RUN_ID], "missing required argument 'step'"],
      [['version', 'x'], 'too many arguments'],
    ]
    for (const [argv, message] of cases) {
      const cli = new CliHarness()
      expect(await cli.run(...argv)).toBe(2)
      expect(cli.err).toContain('✗ request.invalid')
      expect(cli.err).toContain(message)
      expect(cli.out).toBe('')
    }
  })

  test('colours are for terminals, unless --color says otherwise', async () => {
    const coloured = async (given: { tty: boolean; colour: boolean }, ...argv: string[]): Promise<boolean> => {
      const cli = Object.assign(new CliHarness(), given)
      await cli.run('explain', 'step.timed_out', ...argv)
      return cli.out.includes('\x1b[')
    }
    const terminal = { tty: true, colour: true }
    expect(await coloured(terminal)).toBe(true)
    expect(await coloured(terminal, '--color', 'never')).toBe(false)
    // As with NO_COLOR.
    expect(await coloured({ tty: true, colour: false })).toBe(false)
    expect(await coloured({ tty: true, colour: false }, '--color', 'always')).toBe(true)
    const pipe = { tty: false, colour: false }
    expect(await coloured(pipe)).toBe(false)
    expect(await coloured(pipe, '--color', 'always')).toBe(true)
    expect(await coloured(pipe, '--color', 'auto')).toBe(false)
    const cli = new CliHarness()
    expect(await cli.run('--color', 'sometimes', 'version')).toBe(2)
    expect(cli.err).toContain('auto, always, never')
  })

  test('every failure ends with what to type next', async () => {
    const cli = new CliHarness()
    await cli.run('runs', 'list', '--limit', 'many')
    expect(cli.err.trimEnd().split('\n').at(-1)).toBe('    orrery runs list --help')
    cli.err = ''
    cli.startFailure = new Failure('client.server_unreachable', 'asking')
    await cli.run('runs', 'list')
    expect(cli.err.trimEnd().split('\n').at(-1)).toBe('    orrery explain client.server_unreachable')
  })

  test('with --json a failure is one line of JSON', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'show', '--json')).toBe(2)
    expect(JSON.parse(cli.err)).toMatchObject({ failure: { code: 'request.invalid' }, exit: 2 })
    expect(cli.err.trimEnd()).not.toContain('\n')
  })

  test('a bug is told without a stack, with the place of its details', async () => {
    const cli = new CliHarness()
    cli.startFailure = new TypeError('x is not a function')
    expect(await cli.run('runs', 'list')).toBe(70)
    expect(cli.err).toContain('✗ internal.bug')
    expect(cli.err).toContain('/data/bugs/1.txt')
    expect(cli.err).not.toContain('    at ')
    expect(cli.bugs).toHaveLength(1)
  })

  test('a server that cannot be reached says which layer failed and what gave the address', async () => {
    const cli = new CliHarness()
    cli.startFailure = new Failure('client.server_unreachable', 'asking http://127.0.0.1:7780', {
      cause: new Error('connect ECONNREFUSED 127.0.0.1:7780'),
      evidence: { layer: 'tcp', addressFrom: 'ORRERY_SERVER' },
    })
    expect(await cli.run('workers', 'list')).toBe(69)
    expect(cli.err).toBe(
      [
        '✗ client.server_unreachable  The server cannot be reached',
        '  asking http://127.0.0.1:7780',
        '  caused by connect ECONNREFUSED 127.0.0.1:7780',
        '  layer        tcp',
        '  addressFrom  ORRERY_SERVER',
        '  → Start the server with orrery up, or correct --server or ORRERY_SERVER.',
        '    orrery explain client.server_unreachable',
        '',
      ].join('\n'),
    )
  })
})

describe('explain and version', () => {
  test('explain shows the whole entry', async () => {
    const cli = new CliHarness()
    expect(await cli.run('explain', 'step.timed_out')).toBe(0)
    expect(cli.out).toBe(
      [
        'step.timed_out',
        '  The step ran longer than its timeout',
        '',
        '  what to do  Raise the timeout, or make the step faster; its last output is shown with the failure.',
        '  whose move  the author of the workflow',
        '  again       after something was changed',
        '  exit code   1',
        '  HTTP        504',
        '',
      ].join('\n'),
    )
  })

  test('every code of the catalogue explains itself, as text and as JSON', async () => {
    for (const [code, row] of Object.entries(FAILURES)) {
      const text = new CliHarness()
      expect(await text.run('explain', code)).toBe(0)
      expect(text.out).toContain(row.title)
      const json = new CliHarness()
      await json.run('explain', code, '--json')
      expect(json.jsonLines).toEqual([{ code, ...row }])
    }
  })

  test('an unknown code names the nearest, a group lists its codes, nothing lists all', async () => {
    const wrong = new CliHarness()
    expect(await wrong.run('explain', 'step.time_out')).toBe(2)
    expect(wrong.err).toContain('Did you mean step.timed_out?')
    const group = new CliHarness()
    expect(await group.run('explain', 'storage')).toBe(0)
    expect(group.out).toContain('storage.locked')
    expect(group.out).not.toContain('step.')
    const all = new CliHarness()
    await all.run('explain', '--json')
    expect((all.jsonLines[0] as { codes: unknown[] }).codes).toHaveLength(Object.keys(FAILURES).length)
  })

  test('version names the product; with --json the platform too', async () => {
    const cli = new CliHarness()
    expect(await cli.run('version')).toBe(0)
    expect(cli.out).toBe('orrery 1.2.3\n')
    const json = new CliHarness()
    await json.run('version', '--json')
    expect(json.jsonLines).toEqual([
      { version: '1.2.3', node: process.versions.node, platform: process.platform, arch: process.arch },
    ])
    const flag = new CliHarness()
    expect(await flag.run('--version')).toBe(0)
    expect(flag.out).toBe('1.2.3\n')
  })
})

describe('up', () => {
  test('starts with what flags, variables and file say, and drains at the first signal', async () => {
    const cli = new CliHarness()
    cli.env = { ORRERY_PORT: '1', ORRERY_LOG_LEVEL: 'debug' }
    cli.files['/srv/orrery.yaml'] = 'host: 0.0.0.0\ncapacity: 3\ninsecureHttp: true\n'
    const tools = ['--tool-files', 'tools', '--tool-commands', 'git, curl']
    const more = ['--module', 'm=lib/m.ts', '--label', 'a=b', ...tools]
    const running = cli.run('up', '--port', '0', '--config', 'orrery.yaml', ...more)
    await settle(() => cli.out.includes('orrery is up'))
    expect(cli.ups).toEqual([
      {
        store: { kind: 'embedded' },
        dataDir: null,
        secrets: { keyFile: null, dir: null, envPrefix: 'ORRERY_SECRET_' },
        host: '0.0.0.0',
        tls: null,
        trustedProxies: [],
        corsOrigins: [],
        port: 0,
        worker: {
          capacity: 3,
          labels: { a: 'b' },
          modules: { m: '/srv/lib/m.ts' },
          programs: { files: '/srv/tools', hostCommands: ['git', 'curl'] },
        },
        logFormat: 'text',
        logLevel: 'debug',
        logFiles: null,
        metrics: true,
      },
    ])
    cli.signal('SIGTERM')
    await settle(() => cli.stopped === 1)
    cli.ended.resolve({ failure: null })
    expect(await running).toBe(0)
    expect(cli.listeners).toBe(0)
    expect(cli.out).toBe(
      [
        'orrery is up  http://127.0.0.1:7780',
        '  store   embedded',
        '  worker  3 slots',
        '  token   /data/token',
        '  try     orrery run FILE --server http://127.0.0.1:7780',
        '',
      ].join('\n'),
    )
  })

  test('a second signal leaves at once', async () => {
    const cli = new CliHarness()
    const running = cli.run('up', '--json', '--no-worker')
    await settle(() => cli.out !== '')
    expect(cli.jsonLines).toMatchObject([{ type: 'up', address: 'http://127.0.0.1:7780', store: 'embedded' }])
    expect(cli.ups[0]?.worker).toBeNull()
    cli.signal()
    cli.signal()
    expect(await running).toBe(130)
  })

  test('a server that ends by itself gives its failure and exit code', async () => {
    const cli = new CliHarness()
    cli.ended.resolve({ failure: failureRecord('storage.disk_full', 'writing', { cause: new Error('ENOSPC') }) })
    expect(await cli.run('up')).toBe(FAILURES['storage.disk_full'].exit)
    expect(cli.err).toContain('✗ storage.disk_full')
    expect(cli.err).toContain('caused by ENOSPC')
  })

  test('postgres without an address refuses to start, with exit 78', async () => {
    const cli = new CliHarness()
    expect(await cli.run('up', '--store', 'postgres')).toBe(78)
    expect(cli.ups).toEqual([])
    expect(cli.err).toContain('✗ config.storage_dsn_missing')
    expect(cli.err).toContain('--postgres-dsn')
    expect(cli.err).toContain('ORRERY_POSTGRES_DSN')
    expect(cli.err).toContain('postgres://orrery:secret@db.example:5432/orrery')
  })

  test('problems of a file come all at once with line, caret and nearest key', async () => {
    const cli = new CliHarness()
    cli.files['/srv/c.yaml'] = 'prot: 1\nstore: postgress\n'
    expect(await cli.run('up', '--config', 'c.yaml')).toBe(78)
    expect(cli.err).toContain('/srv/c.yaml:1:1  prot')
    expect(cli.err).toContain('    1 | prot: 1\n      | ^\n')
    expect(cli.err).toContain('did you mean "port"?')
    expect(cli.err).toContain('accepted: embedded, postgres (did you mean "postgres"?)')
    expect(cli.ups).toEqual([])
  })

  test('a configuration file that is not there is named', async () => {
    const cli = new CliHarness()
    expect(await cli.run('up', '--config', 'nope.yaml')).toBe(66)
    expect(cli.err).toContain('✗ file.unreadable')
    expect(cli.err).toContain('/srv/nope.yaml')
  })
})

describe('worker', () => {
  test('is handed flags and variables, and drains at the first signal', async () => {
    const cli = new CliHarness()
    cli.env = { ORRERY_WORKER_TOKEN: 't0k', ORRERY_CAPACITY: '2' }
    const running = cli.run('worker', '--server', 'http://s:1', '--name', 'w', '--namespace', 'a', '--workspace', 'ws')
    await settle(() => cli.out !== '')
    expect(cli.workers[0]).toMatchObject({
      server: 'http://s:1',
      name: 'w',
      capacity: 2,
      namespaces: ['a'],
      workspace: '/srv/ws',
    })
    expect(cli.workers[0]?.token?.reveal()).toBe('t0k')
    expect(cli.out).toBe('worker w takes work from http://s:1  2 slots\n')
    cli.signal()
    await settle(() => cli.stopped === 1)
    cli.ended.resolve({ failure: null })
    expect(await running).toBe(0)
  })

  test('that the server refuses says so, and never that it takes work', async () => {
    for (const args of [['worker'], ['worker', '--json']]) {
      const cli = new CliHarness()
      cli.isRegistered = false
      const running = cli.run(...args)
      await settle(() => cli.workers.length === 1)
      cli.ended.resolve({ failure: failureRecord('worker.auth_failed', 'registering worker w') })
      expect(await running).toBe(77)
      expect(cli.out).toBe('')
      expect(cli.err).toContain('worker.auth_failed')
    }
  })

  test('ends with the failure that stopped it', async () => {
    const cli = new CliHarness()
    cli.ended.resolve({ failure: failureRecord('worker.auth_failed', 'registering worker w') })
    expect(await cli.run('worker', '--json')).toBe(77)
    expect(JSON.parse(cli.err)).toMatchObject({ failure: { code: 'worker.auth_failed' }, exit: 77 })
  })
})

describe('runs', () => {
  test('list is a table; filters reach the server', async () => {
    const cli = new CliHarness()
    cli.clock.advance(90_000)
    cli.client.list = [
      runView({ state: 'running', canceling: true, startedAt: at(0), steps: { total: 4, open: 3, bad: 0 } }),
      runView({
        id: 'run_01k0000000000000000000othe',
        state: 'failed',
        startedAt: at(0),
        endedAt: at(1200),
        failure: failureRecord('run.failed', 'm'),
      }),
    ]
    expect(await cli.run('runs', 'list', '--state', 'failed,running', '--workflow', 'demo', '--limit', '7')).toBe(0)
    expect(cli.client.calls).toEqual([['listRuns', { limit: 7, states: ['failed', 'running'], workflow: 'demo' }]])
    expect(cli.out).toBe(
      [
        'ID                              WORKFLOW  STATE      STEPS  CREATED       TOOK  FAILURE',
        'run_01k0000000000000000000dem0  demo      canceling    1/4  1m 30s ago  1m 30s',
        'run_01k0000000000000000000othe  demo      failed       0/1  1m 30s ago    1.2s  run.failed',
        '',
      ].join('\n'),
    )
  })

  test('list takes labels, a time from which on, and where a page was cut', async () => {
    const cli = new CliHarness()
    const filters = ['-l', 'team=core,tier!=web', '--since', '2h', '--cursor', 'run_c']
    expect(await cli.run('runs', 'list', ...filters)).toBe(0)
    const wanted = { labelSelector: 'team=core,tier!=web', since: at(-2 * 3_600_000), cursor: 'run_c' }
    expect(cli.client.calls).toEqual([['listRuns', { limit: 50, ...wanted }]])
    cli.client.list = [runView()]
    cli.client.nextRuns = 'run_next'
    await cli.run('runs', 'list')
    expect(cli.err).toContain('--cursor run_next')
    expect(await cli.run('runs', 'list', '--since', 'yesterday')).toBe(2)
    expect(cli.err).toContain('--since yesterday: is no time')
  })

  test('an empty list says what to do', async () => {
    const cli = new CliHarness()
    await cli.run('runs', 'list')
    expect(cli.err).toContain('No runs yet at http://127.0.0.1:7780. Start one: orrery run FILE')
    const filtered = new CliHarness()
    await filtered.run('runs', 'list', '--state', 'failed')
    expect(filtered.err).toContain('No run fits these filters.')
    const json = new CliHarness()
    await json.run('runs', 'list', '--json')
    expect(json.jsonLines).toEqual([{ runs: [], next: null }])
  })

  test('a state or limit that cannot be is refused before the server is asked', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'list', '--state', 'faild')).toBe(2)
    expect(cli.err).toContain('Did you mean failed?')
    expect(await cli.run('runs', 'list', '--limit', 'x')).toBe(2)
    expect(cli.connects).toEqual([])
  })

  const failedRun = runView({
    state: 'failed',
    epoch: 2,
    startedAt: at(0),
    endedAt: at(900),
    failure: failureRecord('run.failed', 'm'),
    stepList: [
      stepView({ name: 'fetch', state: 'succeeded', startedAt: at(0), endedAt: at(100) }),
      stepView({
        name: 'build',
        state: 'failed',
        needs: ['fetch'],
        worker: 'w1',
        startedAt: at(100),
        endedAt: at(900),
        failure: failureRecord('step.exit_nonzero', 'running step build', { evidence: { exitCode: 2 } }),
      }),
      stepView({
        name: 'ship',
        state: 'blocked',
        needs: ['build'],
        failure: failureRecord('step.upstream_failed', 'm', { evidence: { blockedBy: 'build' } }),
      }),
    ],
  })

  test('show draws the tree, says by whom a step is blocked, and what failed', async () => {
    const cli = new CliHarness()
    cli.client.runs = [failedRun]
    expect(await cli.run('runs', 'show', RUN_ID)).toBe(0)
    expect(cli.out).toBe(
      [
        `demo  ${RUN_ID}  failed  900ms`,
        '├─ ✓ fetch  succeeded    100ms',
        '├─ ✗ build  failed       800ms  step.exit_nonzero',
        '└─ ⊘ ship   blocked             step.upstream_failed (build)',
        'retried 1 time',
        '',
        'step build  on w1',
        '✗ step.exit_nonzero  The command ended with a non-zero exit code',
        '  running step build',
        '  exitCode  2',
        '  → Read the last lines of output shown with the failure.',
        `    orrery runs show ${RUN_ID}`,
        `    orrery runs logs ${RUN_ID} --step build`,
        '    orrery explain step.exit_nonzero',
        '',
        `retry what did not succeed: orrery runs retry ${RUN_ID}`,
        '',
      ].join('\n'),
    )
  })

  test('show names the activations of a forEach that failed', async () => {
    const cli = new CliHarness()
    cli.client.runs = [
      runView({
        state: 'failed',
        stepList: [stepView({ name: 'measure', state: 'failed', activations: { total: 9, succeeded: 8, failed: 1 } })],
      }),
    ]
    cli.client.steps = [
      stepView({ name: 'measure[2]', state: 'succeeded' }),
      stepView({ name: 'measure[3]', state: 'failed', failure: failureRecord('step.signaled', 'running measure[3]') }),
    ]
    await cli.run('runs', 'show', RUN_ID)
    expect(cli.out).toContain('measure  failed              9/9, 1 failed')
    expect(cli.out).toContain('[3]   failed              step.signaled')
    expect(cli.out).toContain('step measure[3]\n✗ step.signaled')
  })

  test('an end of an id that fits one run is enough', async () => {
    const cli = new CliHarness()
    cli.client.list = [runView(), runView({ id: 'run_01k0000000000000000000othe' })]
    expect(await cli.run('runs', 'cancel', 'dem0')).toBe(0)
    expect(cli.client.calls.at(-1)).toEqual(['cancelRun', RUN_ID])
    expect(await cli.run('runs', 'cancel', '01k0')).toBe(2)
    expect(cli.err).toContain('2 runs fit')
  })

  test('show --json is the answer of the server', async () => {
    const cli = new CliHarness()
    cli.client.runs = [failedRun]
    await cli.run('runs', 'show', RUN_ID, '--json', '--server', 'http://s', '--token', 't')
    expect(cli.jsonLines).toEqual([failedRun])
    expect(cli.connects).toEqual([{ server: 'http://s', token: 't' }])
  })

  test('retry says what runs again and what is kept', async () => {
    const cli = new CliHarness()
    cli.client.runs = [failedRun]
    expect(await cli.run('runs', 'retry', RUN_ID)).toBe(0)
    expect(cli.out).toBe(`${RUN_ID} runs again  attempt 2 at the whole\n  again build, ship\n  kept  fetch\n`)
  })

  test('retry of one step names it alone', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'retry', RUN_ID, '--step', 'measure[3]')).toBe(0)
    expect(cli.client.calls).toEqual([['retryStep', RUN_ID, 'measure[3]']])
    expect(cli.out).toBe(`measure[3] of ${RUN_ID} runs again\n`)
  })

  test('a retry that is refused says what is allowed now', async () => {
    const cli = new CliHarness()
    cli.client.failures.set(
      'retryRun',
      new Failure('run.not_recoverable', `retrying ${RUN_ID}`, { evidence: { state: 'running', allowed: ['cancel'] } }),
    )
    expect(await cli.run('runs', 'retry', RUN_ID)).toBe(1)
    expect(cli.err).toContain('✗ run.not_recoverable')
    expect(cli.err).toContain('allowed  cancel')
  })

  test('cancel says that it is under way', async () => {
    const cli = new CliHarness()
    cli.client.runs = [runView({ state: 'running' })]
    expect(await cli.run('runs', 'cancel', RUN_ID)).toBe(0)
    expect(cli.out).toContain(`${RUN_ID} is canceling`)
  })

  test('skip sends the output; what is not JSON is refused', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'skip', RUN_ID, 'build', '--output', '{"ok":true}')).toBe(0)
    expect(cli.client.calls).toEqual([['skipStep', RUN_ID, 'build', { ok: true }]])
    expect(cli.out).toBe(`build is skipped with the output {"ok":true}; ${RUN_ID} is running\n`)
    expect(await cli.run('runs', 'skip', RUN_ID, 'build', '--output', 'yes')).toBe(2)
    expect(cli.err).toContain('--output is not JSON')
  })

  test('logs are lines of their steps without what could drive the terminal', async () => {
    const cli = new CliHarness()
    const line = { step: 'build', fence: 1, index: 1, at: at(5) }
    cli.client.logs = [
      { ...line, stream: 'stdout', text: 'one\x1b[2J\ntwo\n' },
      { ...line, stream: 'stderr', text: 'bad\n' },
    ]
    expect(await cli.run('runs', 'logs', RUN_ID, '-f', '--step', 'build')).toBe(0)
    expect(cli.client.calls[0]).toMatchObject(['followLogs', RUN_ID, { follow: true, step: 'build' }])
    expect(cli.out).toBe(
      [
        '12:00:00.005  build            │ one',
        '12:00:00.005  build            │ two',
        '12:00:00.005  build            │ bad',
        '',
      ].join('\n'),
    )
    const json = new CliHarness()
    json.client.logs = cli.client.logs
    await json.run('runs', 'logs', RUN_ID, '--json')
    expect(json.jsonLines).toEqual(cli.client.logs)
  })

  test('no log lines are told as such', async () => {
    const cli = new CliHarness()
    expect(await cli.run('runs', 'logs', RUN_ID)).toBe(0)
    expect(cli.err).toContain('No log lines')
  })

  test('workers are a table, or a hint when there are none', async () => {
    const cli = new CliHarness()
    expect(await cli.run('workers')).toBe(0)
    expect(cli.err).toContain('orrery worker --server http://127.0.0.1:7780')
    cli.client.workers = [
      {
        worker: 'w1',
        session: 'ses_1',
        state: 'live',
        capacity: 4,
        held: 1,
        labels: { gpu: 'yes' },
        modules: ['m'],
        backends: ['process'],
        version: '1.2.3',
        heartbeatAgoMs: 300,
        clockSkewMs: 0,
        problems: [],
      },
    ]
    await cli.run('workers', 'list')
    expect(cli.out).toBe(
      [
        'WORKER  STATE  BUSY  HEARTBEAT  MODULES  LABELS   VERSION',
        'w1      live   1/4   300ms ago  m        gpu=yes  1.2.3',
        '',
      ].join('\n'),
    )
  })
})
