import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const ROOT = join(import.meta.dirname, '..')

export interface Stage {
  name: string
  command: readonly string[]
  /** `exit`: the stage is one check that its exit code decides. `vitest`: its tests are counted from the JSON report. */
  reporter: 'exit' | 'vitest'
  boundMs: number
  /** The stage is left out while this path does not exist. */
  requires?: string
  env?: Record<string, string>
}

export interface StageResult {
  name: string
  passed: number
  failed: number
  skipped: number
  durationMs: number
  output: string
  /** What went wrong beside failed tests: the bound, processes left behind, no test at all. */
  complaints: string[]
  skippedNames: string[]
  /** Tests that failed once and passed when they were tried again, each with what it said first. */
  retried: string[]
}

/** Variable that marks every process of a stage, so that also those are found that left its process group. */
const MARK = 'ORRERY_STAGE_MARK'
const LEAVE_GRACE_MS = 3_000

interface Listener {
  began?: (stage: Stage) => void
  ended: (result: StageResult) => void
  /** Something that tests need is missing here. */
  maySkipAll?: boolean
}

/** Runs stages in their order, two at a time: the longest come first, so that neither core waits long for the other at the end. */
export async function runTwoAtOnce(stages: readonly Stage[], listener: Listener): Promise<StageResult[]> {
  const waiting = [...stages]
  const results: StageResult[] = []
  const lane = async () => {
    for (let stage = waiting.shift(); stage !== undefined; stage = waiting.shift()) {
      listener.began?.(stage)
      const result = await runStage(stage, { maySkipAll: listener.maySkipAll ?? false })
      results.push(result)
      listener.ended(result)
    }
  }
  await Promise.all([lane(), lane()])
  return results
}

/** Runs a stage to its end or its bound. No process of it is left afterwards. `maySkipAll`: something that its tests need is missing here. */
export async function runStage(stage: Stage, { maySkipAll = false } = {}): Promise<StageResult> {
  const started = performance.now()
  const mark = randomUUID()
  const scratch = mkdtempSync(join(tmpdir(), 'orrery-stage-'))
  const report = join(scratch, 'report.json')
  const complaints: string[] = []
  const ended = await runCommand(commandOf(stage, report), {
    env: { ...process.env, ...stage.env, [MARK]: mark },
    boundMs: stage.boundMs,
    mark,
  })
  if (ended.isOverBound) complaints.push(`was ended at its bound of ${stage.boundMs / 1000} s`)
  const left = await processesLeft(mark)
  if (left.length > 0 && !ended.isOverBound)
    complaints.push(`left processes behind: ${left.map((p) => p.title).join(' | ')}`)
  killAll(left.map((p) => p.pid))
  const counts = stage.reporter === 'vitest' ? countVitest(report) : NOTHING
  rmSync(scratch, { recursive: true, force: true })
  let { passed, failed } = counts
  if (stage.reporter === 'exit') {
    if (ended.exitCode === 0 && complaints.length === 0) passed = 1
    else failed = 1
  } else {
    const ran = passed + failed
    if (ran === 0 && !(maySkipAll && counts.skipped > 0)) complaints.push('ran no test')
    if (ended.exitCode !== 0 && failed === 0) complaints.push(`ended with exit code ${ended.exitCode}`)
    if (complaints.length > 0) failed += 1
  }
  return {
    name: stage.name,
    ...counts,
    passed,
    failed,
    durationMs: performance.now() - started,
    output: ended.output,
    complaints,
  }
}

function commandOf(stage: Stage, report: string): string[] {
  if (stage.reporter === 'exit') return [...stage.command]
  return [...stage.command, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
}

interface CommandOptions {
  env: NodeJS.ProcessEnv
  boundMs: number
  mark: string
}

interface CommandEnd {
  exitCode: number
  output: string
  isOverBound: boolean
}

function runCommand(argv: string[], options: CommandOptions): Promise<CommandEnd> {
  const [command = '', ...args] = argv
  return new Promise((resolve) => {
    let output = ''
    let isOverBound = false
    const child = spawn(command, args, {
      cwd: ROOT,
      env: options.env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const take = (chunk: string) => void (output += chunk)
    child.stdout.setEncoding('utf8').on('data', take)
    child.stderr.setEncoding('utf8').on('data', take)
    const kill = () => {
      const pids = markedProcesses(options.mark).map((p) => p.pid)
      if (child.pid !== undefined) killAll([-child.pid, ...pids])
    }
    const timer = setTimeout(() => {
      isOverBound = true
      kill()
    }, options.boundMs)
    const onSignal = () => {
      kill()
      process.exit(130)
    }
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
    const done = (exitCode: number) => {
      clearTimeout(timer)
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
      resolve({ exitCode, output, isOverBound })
    }
    child.on('error', (error) => {
      output += `${command}: ${error.message}\n`
      done(127)
    })
    // Not `close`: a process left behind keeps the pipe open for as long as it lives.
    child.on('exit', (code) => setTimeout(() => done(code ?? 1), 50))
  })
}

interface LiveProcess {
  pid: number
  title: string
}

/** Live processes that carry the mark in their environment, or whose parent is one that does. Empty where there is no /proc. */
function markedProcesses(mark: string): LiveProcess[] {
  if (!existsSync('/proc/self/environ')) return []
  const found = new Map<number, LiveProcess>()
  const parents = new Map<number, number>()
  const titles = new Map<number, string>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (state === 'Z') continue
      parents.set(pid, Number(parent))
      titles.set(
        pid,
        `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 160)}`,
      )
      if (readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`${MARK}=${mark}`)) {
        found.set(pid, { pid, title: titles.get(pid) ?? '' })
      }
    } catch {
      // It ended while it was looked at, or belongs to another user.
    }
  }
  for (let grew = true; grew;) {
    grew = false
    for (const [pid, parent] of parents) {
      if (found.has(pid) || !found.has(parent)) continue
      found.set(pid, { pid, title: titles.get(pid) ?? '' })
      grew = true
    }
  }
  return [...found.values()]
}

/** Processes that are still there after a moment's grace. */
async function processesLeft(mark: string): Promise<LiveProcess[]> {
  const until = performance.now() + LEAVE_GRACE_MS
  for (;;) {
    const left = markedProcesses(mark)
    if (left.length === 0 || performance.now() > until) return left
    await sleep(100)
  }
}

function killAll(pids: number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // Gone already.
    }
  }
}

interface VitestReport {
  numPassedTests: number
  numPendingTests: number
  numTodoTests: number
  numFailedTests: number
  testResults: {
    name: string
    status: string
    message?: string
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[]
  }[]
}

type Counts = Pick<StageResult, 'passed' | 'failed' | 'skipped' | 'skippedNames' | 'retried'>
const NOTHING: Counts = { passed: 0, failed: 0, skipped: 0, skippedNames: [], retried: [] }

function countVitest(report: string): Counts {
  if (!existsSync(report)) return NOTHING
  const parsed = JSON.parse(readFileSync(report, 'utf8')) as VitestReport // vitest's own format, of the version in the lock file
  // A file that does not load has no test in it and would count as nothing.
  const broken = parsed.testResults.filter(
    (f) => f.status === 'failed' && f.assertionResults.every((t) => t.status !== 'failed'),
  )
  const tests = parsed.testResults.flatMap((file) =>
    file.assertionResults.map((t) => ({ ...t, file: relative(ROOT, file.name) })),
  )
  return {
    passed: parsed.numPassedTests,
    failed: parsed.numFailedTests + broken.length,
    skipped: parsed.numPendingTests + parsed.numTodoTests,
    skippedNames: tests.filter((t) => t.status !== 'passed' && t.status !== 'failed').map((t) => t.fullName),
    // The report keeps what the failed try said with the test that passed then.
    retried: tests.flatMap(({ status, file, fullName, failureMessages: [first] }) =>
      status === 'passed' && first !== undefined ? [`${file} > ${fullName}: ${first.split('\n', 1)[0]}`] : [],
    ),
  }
}
