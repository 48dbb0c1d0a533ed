import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../base/index.ts'
import { type AttemptPaths, attemptPaths, MARKER } from './layout.ts'
import { type CommandPipe, PipePool } from './pipe-pool.ts'
import { ShimCommand } from './shim-command.ts'
import type { StartOrder } from './shim-protocol.ts'

let root: string
let paths: AttemptPaths

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'orrery-shim-command-'))
  paths = attemptPaths(join(root, 'attempt'))
  mkdirSync(paths.work, { recursive: true })
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** Every command takes two pipes while it is being started. */
class WatchedPipes extends PipePool {
  readonly #onTake: (count: number) => void
  #count = 0

  constructor(onTake: (count: number) => void) {
    super(join(root, 'pipe'))
    this.#onTake = onTake
  }

  override take(): Promise<CommandPipe | null> {
    this.#onTake(++this.#count)
    return super.take()
  }
}

const sh = (script: string) => ['sh', '-c', script]

interface Watch {
  onTake?: (count: number, command: ShimCommand) => void
  onOutput?: (command: ShimCommand) => void
}

async function run(more: Partial<StartOrder>, watch: Watch = {}) {
  const order: StartOrder = {
    key: 'run_1.build@1',
    dir: paths.dir,
    file: null,
    argv: ['true'],
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', ROOT: root, ORRERY_OUTPUT: paths.result, [MARKER]: paths.dir },
    cwd: paths.work,
    hasStdin: false,
    timeoutMs: null,
    killGraceMs: 100,
    ...more,
  }
  let command: ShimCommand | null = null
  const pipes = new WatchedPipes((count) => {
    if (command) watch.onTake?.(count, command)
  })
  const onOutput = () => {
    if (command) watch.onOutput?.(command)
  }
  command = await ShimCommand.start(order, { clock: systemClock, pipes, onOutput })
  try {
    return await command.ended
  } finally {
    pipes.clear()
  }
}

describe.each(['canceled', 'timed_out'] as const)('a step that is %s', (reason) => {
  test('while its command is being started does not run it to its end', async () => {
    const { end, traces } = await run(
      { setUp: [['true']], argv: ['sleep', '60'] },
      {
        onTake: (count, command) => {
          if (count === 3) command.stop(reason)
        },
      },
    )
    expect(end.kind).toBe(reason)
    expect(traces?.stages?.map((s) => [s.stage, s.end])).toEqual([
      ['setUp', 'exited'],
      ['command', reason],
    ])
  })

  test('between a set-up, which leaves something that will not go, and its command has its whole tear-down', async () => {
    // Says so when the set-up itself is gone, and keeps the output open until the gate is.
    const service = `leader=$$; (trap '' TERM; while kill -0 $leader; do sleep 0.02; done; echo $((40 + 2))x; until [ -e $ROOT/gate ]; do sleep 0.02; done; exec > /dev/null 2>&1; sleep 20) 2> /dev/null &`
    const { end, traces } = await run(
      {
        setUp: [sh(service)],
        argv: ['sleep', '60'],
        tearDown: { commands: [sh('sleep 1; echo tidy > $ROOT/trace')], timeoutMs: 30_000 },
        killGraceMs: 300,
      },
      {
        onOutput: (command) => {
          if (existsSync(join(root, 'gate')) || !readFileSync(paths.output).includes('42x')) return
          command.stop(reason)
          writeFileSync(join(root, 'gate'), '')
        },
      },
    )
    expect(end.kind).toBe(reason)
    expect(traces?.stages?.map((s) => [s.stage, s.end])).toEqual([
      ['setUp', reason],
      ['tearDown', 'exited'],
    ])
    expect(existsSync(join(root, 'trace')) && readFileSync(join(root, 'trace'), 'utf8')).toBe('tidy\n')
  })
})

test('nothing that runs after a command or beside it replaces its output', async () => {
  const secret = 'hunter2-horse'
  const { end, traces } = await run({
    setUp: [
      sh(
        '(until [ -e $ROOT/gate ]; do sleep 0.02; done; echo 2 > "$ORRERY_OUTPUT"; : > $ROOT/late) > /dev/null 2>&1 &',
      ),
    ],
    argv: sh('printf "[1, \\"$TOKEN\\"]" > "$ORRERY_OUTPUT"'),
    env: {
      PATH: '/usr/bin:/bin',
      ROOT: root,
      TOKEN: secret,
      ORRERY_OUTPUT: paths.result,
      ORRERY_ENV: paths.env,
      [MARKER]: paths.dir,
    },
    redact: [secret],
    tearDown: {
      commands: [
        sh(': > $ROOT/gate; until [ -e $ROOT/late ]; do sleep 0.02; done'),
        sh('[ -z "$ORRERY_OUTPUT$ORRERY_ENV" ]'),
      ],
      timeoutMs: 30_000,
    },
  })
  expect(traces?.stages?.map((s) => s.exitCode)).toEqual([0, 0, 0, 0])
  const file = end.kind === 'exited' ? end.outputFile : null
  expect(JSON.parse(readFileSync(file ?? '', 'utf8'))).toEqual([1, '[secret]'])
  expect(statSync(file ?? '').mode & 0o777).toBe(0o600)
})

test.each(['ORRERY_ENV', 'ORRERY_OUTPUT'])('a pipe in the place of $%s holds nothing up', async (name) => {
  const { end } = await run({
    argv: sh(`mkfifo "$${name}"`),
    env: { PATH: '/usr/bin:/bin', ORRERY_OUTPUT: paths.result, ORRERY_ENV: paths.env, [MARKER]: paths.dir },
    exportEnv: true,
  })
  if (name === 'ORRERY_ENV')
    expect(end).toMatchObject({
      kind: 'unusable',
      failure: { code: 'env.malformed', evidence: { problem: 'it is no file' } },
    })
  else expect(end).toMatchObject({ kind: 'exited', outputFile: paths.taken })
})
