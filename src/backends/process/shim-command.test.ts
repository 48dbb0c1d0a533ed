import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
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

async function run(more: Partial<StartOrder>, onTake: (count: number, command: ShimCommand) => void = () => {}) {
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
    if (command) onTake(count, command)
  })
  command = await ShimCommand.start(order, { clock: systemClock, pipes, onOutput: () => {} })
  try {
    return await command.ended
  } finally {
    pipes.clear()
  }
}

test.each(['canceled', 'timed_out'] as const)(
  'a command that is %s while it is being started is stopped, and its tear-down is not',
  async (reason) => {
    const { end, traces } = await run(
      {
        setUp: [sh(`(trap '' TERM; sleep 20) > /dev/null 2>&1 &`)],
        argv: ['sleep', '60'],
        tearDown: { commands: [sh('sleep 0.5; echo tidy > $ROOT/trace')], timeoutMs: 30_000 },
      },
      (count, command) => {
        if (count === 3) command.stop(reason)
      },
    )
    expect(end.kind).toBe(reason)
    expect(traces?.stages?.map((s) => [s.stage, s.end])).toEqual([
      ['setUp', 'exited'],
      ['command', reason],
      ['tearDown', 'exited'],
    ])
    expect(existsSync(join(root, 'trace')) && readFileSync(join(root, 'trace'), 'utf8')).toBe('tidy\n')
  },
)

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
