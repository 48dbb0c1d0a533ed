// Real `orrery` processes: the program as people start it, its output, its death.
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'app', 'main.ts')
/** Prepared databases of this checkout alone: another one may have other migrations. */
const CACHE = join(import.meta.dirname, '..', '..', '.cache')
/** Marks what this test process started; children inherit it, so that those are found too that outlive their parent. */
const MARK = 'ORRERY_TEST_MARK'
const mark = randomUUID()

export interface ProcessEnd {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface OrreryProcess {
  readonly pid: number
  stdout(): string
  stderr(): string
  /** Both streams as they came. */
  output(): string
  /** Resolves when the process has ended and all it printed was read. */
  readonly ended: Promise<ProcessEnd>
  /** Waits until the output matches; fails with the whole output when the process ends or the time is up. */
  waitFor(pattern: RegExp, options: { withinMs: number }): Promise<RegExpExecArray>
  kill9(): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** TERM, then KILL after the grace. */
  stop(options?: { graceMs?: number }): Promise<ProcessEnd>
}

export interface StartOptions {
  /** Added to a small clean environment (PATH, HOME, no colours); nothing else is inherited. */
  env?: Record<string, string>
  cwd?: string
  stdin?: string
}

/** Starts `orrery <args>`. */
export function startOrrery(args: readonly string[], options: StartOptions = {}): OrreryProcess {
  return startNode([MAIN, ...args], options)
}

/** Runs `orrery <args>` to its end; a process that does not end is killed and reported with its output. */
export async function runOrrery(
  args: readonly string[],
  options: StartOptions & { withinMs?: number } = {},
): Promise<ProcessEnd & { stdout: string; stderr: string }> {
  const child = startOrrery(args, options)
  const withinMs = options.withinMs ?? 60_000
  let isOver = false
  const timer = setTimeout(() => {
    isOver = true
    child.signal('SIGKILL')
  }, withinMs)
  const end = await child.ended
  clearTimeout(timer)
  if (isOver) throw new Error(`orrery ${args.join(' ')} did not end within ${withinMs} ms:\n${child.output()}`)
  return { ...end, stdout: child.stdout(), stderr: child.stderr() }
}

/** Starts a program with the Node that runs the tests. */
export function startNode(args: readonly string[], options: StartOptions = {}): OrreryProcess {
  const child = spawn(process.execPath, args, {
    cwd: options.cwd ?? tmpdir(),
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: process.env['HOME'] ?? tmpdir(),
      NO_COLOR: '1',
      XDG_CACHE_HOME: CACHE,
      // As bin/orrery.mjs has it: most of what a short command costs is to compile it.
      NODE_COMPILE_CACHE: join(CACHE, 'compiled'),
      ...stageMark(),
      ...options.env,
      [MARK]: mark,
    },
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  if (options.stdin !== undefined) child.stdin?.on('error', () => {}).end(options.stdin)
  return observe(child)
}

/** Of the stage that these tests belong to, when one runs them: it ends what they leave behind. */
function stageMark(): Record<string, string> {
  const value = process.env['ORRERY_STAGE_MARK']
  return value === undefined ? {} : { ORRERY_STAGE_MARK: value }
}

function observe(child: ChildProcess): OrreryProcess {
  let stdout = ''
  let stderr = ''
  let output = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk
    output += chunk
  })
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk
    output += chunk
  })
  let end: ProcessEnd | null = null
  const ended = new Promise<ProcessEnd>((resolve, reject) => {
    child.on('error', reject)
    // `close` waits for the pipes too, which a grandchild may hold open: a moment after `exit` is enough.
    const done = (code: number | null, signal: NodeJS.Signals | null) => {
      end ??= { code, signal }
      resolve(end)
    }
    child.on('close', done)
    child.on('exit', (code, signal) => setTimeout(() => done(code, signal), 500).unref())
  })
  const signal = (name: NodeJS.Signals) => {
    child.kill(name)
  }
  return {
    pid: child.pid ?? -1,
    stdout: () => stdout,
    stderr: () => stderr,
    output: () => output,
    ended,
    signal,
    waitFor: async (pattern, { withinMs }) => {
      try {
        return await eventually(
          () => {
            const match = pattern.exec(output)
            if (match) return { match }
            return end === null ? null : { match: null }
          },
          { withinMs },
        ).then(({ match }) => {
          if (match) return match
          throw new Error(`it ended (${JSON.stringify(end)}) first`)
        })
      } catch (error) {
        throw new Error(`no ${pattern} in the output of process ${child.pid}:\n${output}`, { cause: error })
      }
    },
    kill9: async () => {
      signal('SIGKILL')
      await ended
    },
    stop: async ({ graceMs = 10_000 } = {}) => {
      signal('SIGTERM')
      const timer = setTimeout(() => signal('SIGKILL'), graceMs)
      const how = await ended
      clearTimeout(timer)
      return how
    },
  }
}

/** Processes that this test process started, or that those started, which still live: `<pid> <command line>`. */
export function liveProcesses(): string[] {
  if (!existsSync('/proc/self/environ')) return []
  const live: string[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      if (!readFileSync(`/proc/${entry}/environ`, 'latin1').includes(`${MARK}=${mark}`)) continue
      live.push(`${entry} ${readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()}`)
    } catch {
      // It ended while it was looked at.
    }
  }
  return live
}

/** Fails when a process is left. Call it in `afterEach` or `afterAll`, once everything was stopped. */
export async function expectNoProcessLeft({ withinMs = 5_000 } = {}): Promise<void> {
  await eventually(() => liveProcesses().length === 0, { withinMs, what: 'the end of all processes' }).catch(() => {
    const left = liveProcesses()
    for (const line of left) {
      try {
        process.kill(Number.parseInt(line, 10), 'SIGKILL')
      } catch {
        // Gone already.
      }
    }
    if (left.length > 0) throw new Error(`processes were left behind:\n${left.join('\n')}`)
  })
}
