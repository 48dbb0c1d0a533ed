import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { assert, type Clock, Redactor } from '../../base/index.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type CommandEnd, type CommandTraces, isStaged, type Stage, type StageEnd } from '../backend.ts'
import { readPlain } from '../read-plain.ts'
import { redactOutput } from '../redact-output.ts'
import { isGoodStage, labelOfStage, shownCommand, textOfEnd } from '../stage-text.ts'
import { type AttemptPaths, attemptPaths, type ExitRecord } from './layout.ts'
import type { OutputTaker } from './output-taker.ts'
import { OutputWriter } from './output-writer.ts'
import type { PipePool } from './pipe-pool.ts'
import type { StopResult } from './process-tree.ts'
import type { StartOrder } from './shim-protocol.ts'
import { type Exit, StageProcess } from './stage-process.ts'
import type * as Tools from './stage-tools.ts'

/** How long the pipes may stay open after the last process that we know of is gone. */
const DRAIN_MS = 1_000
/** Timers of the runtime take no longer delays. */
const SLEEP_MAX_MS = 86_400_000

interface CommandDeps {
  clock: Clock
  pipes: PipePool
  onOutput: () => void
}

type StopReason = 'canceled' | 'timed_out'

interface StagePlan {
  stage: Stage
  number: number
  of: number
  argv: readonly string[]
}

/**
 * One attempt inside the shim host: its commands one after the other, their output, its clock and its end. A worker that dies meanwhile changes
 * nothing: the order of the commands is kept here.
 */
export class ShimCommand {
  readonly key: string
  readonly startedAt: number
  /** Resolves once every process of the attempt is gone and its output is in the file. */
  readonly ended: Promise<ExitRecord>

  readonly #order: StartOrder
  readonly #deps: CommandDeps
  readonly #clock: Clock
  readonly #paths: AttemptPaths
  readonly #redactor: Redactor | null
  readonly #writer: OutputWriter
  readonly #isStaged: boolean
  readonly #tools: typeof Tools | null
  readonly #readers = new Map<string, number>()
  /** All that were started: what one leaves in the background may go on to print. */
  readonly #processes: StageProcess[] = []
  #current: StageProcess | null = null
  /** What runs now is the command itself. */
  #isLast = false
  /** Set-up and command are over: neither a cancel nor the time-out means anything any more. */
  #isPast = false
  #stopReason: StopReason | null = null
  #stopped: Promise<StopResult> | null = null
  #exported: Readonly<Record<string, string>> = {}

  /** Resolves when the kernel runs the command; rejects with the system's error when it does not. With stages it always resolves. */
  static async start(order: StartOrder, deps: CommandDeps): Promise<ShimCommand> {
    const { dir, file, argv, cwd, env } = order
    const stdin = order.hasStdin ? attemptPaths(dir).stdin : null
    const asksMore = file === null || order.take !== undefined || order.exportEnv === true
    const tools = asksMore ? await import('./stage-tools.ts') : null
    const first = file === null ? null : await StageProcess.start({ file, argv, cwd, env, stdin, dir }, deps)
    return new ShimCommand(order, { first, tools }, deps)
  }

  private constructor(
    order: StartOrder,
    { first, tools }: { first: StageProcess | null; tools: typeof Tools | null },
    deps: CommandDeps,
  ) {
    this.key = order.key
    this.#order = order
    this.#deps = deps
    this.#clock = deps.clock
    this.startedAt = deps.clock.now()
    this.#paths = attemptPaths(order.dir)
    this.#isStaged = isStaged(order)
    this.#tools = tools
    this.#redactor = order.redact ? new Redactor(order.redact) : null
    this.#writer = new OutputWriter({
      path: this.#paths.output,
      clock: deps.clock,
      redactor: this.#redactor,
      onWritten: () => {
        this.#press()
        deps.onOutput()
      },
    })
    this.ended = this.#live(first)
  }

  /** TERM, grace, KILL. Nothing happens when the command has exited or is being stopped; a tear-down follows all the same. */
  stop(reason: StopReason): void {
    const hasExited = this.#isLast && this.#current?.hasExited
    if (this.#isPast || hasExited || this.#stopReason !== null) return
    this.#stopReason = reason
    // Between two commands the next one is stopped when it is there; what the last one left is the tear-down's to use.
    if (this.#current && !this.#current.hasExited) this.#stopCurrent(this.#current)
  }

  /** From now on the command is not read faster than this reader reads. */
  setReader(reader: string, offset: number): void {
    this.#readers.set(reader, offset)
    this.#press()
  }

  dropReaders(isDropped: (reader: string) => boolean): void {
    for (const reader of this.#readers.keys()) if (isDropped(reader)) this.#readers.delete(reader)
    this.#press()
  }

  #stopCurrent(current: StageProcess): void {
    this.#stopped = current.tree.stop({ graceMs: this.#order.killGraceMs })
    this.#press()
  }

  /** Stops or goes on reading. Without a reader, and once the end has begun, nothing holds the command up. */
  #press(): void {
    const slowest = Math.min(...this.#readers.values())
    const ahead = this.#writer.fileBytes - slowest > LIMITS.logBufferBytes
    const goesOn = !this.#isPast && this.#current?.hasExited === false && this.#stopReason === null
    for (const process of this.#processes) process.hold(ahead && goesOn)
  }

  async #live(first: StageProcess | null): Promise<ExitRecord> {
    const over = new AbortController()
    const { timeoutMs, tearDown } = this.#order
    if (timeoutMs !== null) void this.#timeOut(timeoutMs, over.signal)
    const stages: StageEnd[] = []
    const { end, taken } = await this.#work(first, stages)
    over.abort()
    if (tearDown) await this.#tearDown(tearDown, end, stages)
    if (this.#isStaged) await this.#clearAway()
    const traces: CommandTraces = {
      ...(this.#isStaged ? { stages } : {}),
      ...(taken ? { taken } : {}),
      ...(this.#order.exportEnv && isGood(end) ? { exported: { ...this.#exported } } : {}),
    }
    const record = { startedAt: this.startedAt, endedAt: this.#clock.now(), end }
    return Object.keys(traces).length > 0 ? { ...record, traces } : record
  }

  /** Set-up and command, as far as they come. */
  async #work(
    first: StageProcess | null,
    stages: StageEnd[],
  ): Promise<{ end: CommandEnd; taken: CommandTraces['taken'] }> {
    const { setUp = [], argv } = this.#order
    const plans = [...plansOf('setUp', setUp), ...plansOf('command', [argv])]
    const taker = this.#order.take && this.#tools ? new this.#tools.OutputTaker(this.#order.take) : null
    for (const plan of plans) {
      const end = await this.#run(plan, first, plan.stage === 'command' ? taker : null)
      stages.push(end)
      if (isGoodStage(end) && plan.stage !== 'command') continue
      this.#isPast = true
      const last = this.#endOf(end)
      const taken = isGood(last) ? taker?.take(this.#paths, this.#redactor) : undefined
      return { end: last, taken }
    }
    throw new Error('an attempt has a command')
  }

  async #tearDown(
    tearDown: { commands: readonly string[][]; timeoutMs: number },
    end: CommandEnd,
    stages: StageEnd[],
  ): Promise<void> {
    const due = this.#clock.monotonic() + tearDown.timeoutMs
    const outcome = isGood(end)
      ? 'succeeded'
      : end.kind === 'timed_out' || end.kind === 'canceled'
        ? end.kind
        : 'failed'
    for (const plan of plansOf('tearDown', tearDown.commands)) {
      const ended = await this.#run(plan, null, null, { due, env: { ORRERY_OUTCOME: outcome } })
      stages.push(isGoodStage(ended) ? ended : { ...ended, tail: this.#writer.tail })
    }
  }

  /** One command, to its end. Never throws: what keeps it from running is its end. */
  async #run(
    plan: StagePlan,
    given: StageProcess | null,
    taker: OutputTaker | null,
    bound: { due: number; env: Record<string, string> } | null = null,
  ): Promise<StageEnd> {
    const began = this.#clock.monotonic()
    const ended = (end: Partial<StageEnd> & Pick<StageEnd, 'end'>): StageEnd => {
      const { stage, number } = plan
      const durationMs = Math.round(this.#clock.monotonic() - began)
      const whole = { stage, number, exitCode: null, signal: null, durationMs, ...end }
      if (this.#isStaged && !isGoodStage(whole)) this.#writer.say(`${labelOfStage(plan)} ${textOfEnd(whole)}\n`)
      return whole
    }
    if (this.#isStaged) {
      this.#writer.resetTail()
      this.#writer.say(`${labelOfStage(plan)}: ${shownCommand(plan.argv, this.#redactor)}\n`)
    }
    if (bound === null && this.#stopReason !== null) return ended({ end: this.#stopReason })
    if (bound !== null && began >= bound.due) return ended({ end: 'timed_out' })
    let process: StageProcess
    try {
      process = given ?? (await this.#spawn(plan, bound?.env ?? {}))
    } catch (error) {
      return ended({ end: 'not_started', failure: this.#refusal(plan, error) })
    }
    this.#processes.push(process)
    this.#current = process
    this.#isLast = plan.stage === 'command'
    const drained = process.pump((stream, chunk) => {
      this.#writer.write(stream, chunk)
      if (stream === 'stdout') taker?.push(chunk)
    })
    this.#press()
    // Asked to stop while it was being started.
    if (bound === null && this.#stopReason !== null && this.#stopped === null) this.#stopCurrent(process)
    const late = bound === null ? null : await this.#waitUntil(process, bound.due)
    const exit = await process.exited
    this.#press()
    if (this.#isStaged) await this.#closeStage(process, drained, exit, bound === null)
    else await this.#closeOnly(process, drained, exit)
    const { code: exitCode, signal } = exit
    if (late) return ended({ end: 'timed_out', exitCode, signal })
    if (bound === null && this.#stopReason !== null) return ended({ end: this.#stopReason, exitCode, signal })
    const failure = this.#handOn(plan, exitCode)
    return ended({ end: exitCode === null ? 'signaled' : 'exited', exitCode, signal, ...(failure ? { failure } : {}) })
  }

  async #spawn({ stage, argv }: StagePlan, more: Record<string, string>): Promise<StageProcess> {
    const { cwd, dir, hasStdin } = this.#order
    // What a set-up exports is newer than what the step was given.
    const env: Record<string, string> = { ...this.#order.env, ...this.#exported, ORRERY_STAGE: stage, ...more }
    // What the step says has been said by then.
    if (stage === 'tearDown') for (const name of ['ORRERY_OUTPUT', 'ORRERY_ENV']) delete env[name]
    const file = await this.#need().findExecutable(argv[0] ?? '', { env, cwd })
    const stdin = stage === 'command' && hasStdin ? this.#paths.stdin : null
    const elders = this.#processes.at(-1)?.tree ?? null
    return StageProcess.start({ file, argv, cwd, env, stdin, dir, elders }, this.#deps)
  }

  #need(): typeof Tools {
    assert(this.#tools, 'an attempt with more than its command has what that takes')
    return this.#tools
  }

  #refusal({ argv }: StagePlan, error: unknown): FailureRecord {
    if (error instanceof Error && 'toRecord' in error && typeof error.toRecord === 'function')
      return error.toRecord() as FailureRecord // a Failure
    const errno = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
    const message = error instanceof Error ? error.message : String(error)
    return this.#need()
      .startFailure({ errno, message }, this.key, { executable: argv[0] ?? '', errno })
      .toRecord()
  }

  /** True when the process was stopped because its time was over. */
  async #waitUntil(process: StageProcess, due: number): Promise<boolean> {
    const over = new AbortController()
    const isLate = this.#clock.sleep(due - this.#clock.monotonic(), over.signal).then(
      () => true,
      () => false,
    )
    const late = await Promise.race([isLate, process.exited.then(() => false)])
    over.abort()
    if (late) await process.tree.stop({ graceMs: this.#order.killGraceMs })
    return late
  }

  /** What it left in the background goes on, for those that come after it; its pipes stay open for that. */
  async #closeStage(process: StageProcess, drained: Promise<unknown>, exit: Exit, isWork: boolean): Promise<void> {
    if (isWork && this.#stopped) this.#sayLeftovers(await this.#stopped, { asked: true })
    const closed = await Promise.race([drained.then(() => true), this.#clock.sleep(DRAIN_MS).then(() => false)])
    if (closed || !exit.leftProcesses) process.close()
    this.#writer.settle()
  }

  async #closeOnly(process: StageProcess, drained: Promise<unknown>, exit: Exit): Promise<void> {
    const stopped = this.#stopped
      ? await this.#stopped
      : exit.leftProcesses
        ? await process.tree.stop({ graceMs: this.#order.killGraceMs })
        : { found: [], survivors: [] }
    await Promise.race([drained, this.#clock.sleep(DRAIN_MS)])
    process.close()
    this.#sayLeftovers(stopped, { asked: this.#stopped !== null })
    this.#writer.finish()
  }

  /** Ends what the stages left running. */
  async #clearAway(): Promise<void> {
    const tree = this.#processes.at(-1)?.tree
    if (tree && tree.look().length > 0)
      this.#sayLeftovers(await tree.stop({ graceMs: this.#order.killGraceMs }), { asked: false })
    for (const process of this.#processes) process.close()
    this.#writer.finish()
  }

  /** Variables for those that come after it. Only what ended well hands on. */
  #handOn(plan: StagePlan, exitCode: number | null): FailureRecord | null {
    if (!this.#order.exportEnv || plan.stage === 'tearDown' || exitCode !== 0) return null
    const what = `the ${labelOfStage(plan)} of ${this.key}`
    const { env, failure } = this.#need().takeExports(this.#paths.env, this.#exported, {
      redactor: this.#redactor,
      what,
    })
    this.#exported = env
    return failure
  }

  async #timeOut(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const due = this.#clock.monotonic() + timeoutMs
    try {
      for (let left = timeoutMs; left > 0; left = due - this.#clock.monotonic()) {
        await this.#clock.sleep(Math.min(left, SLEEP_MAX_MS), signal)
      }
      this.stop('timed_out')
    } catch {
      // It ended in time.
    }
  }

  #sayLeftovers({ found, survivors }: StopResult, { asked }: { asked: boolean }): void {
    const list = (processes: StopResult['found']) => processes.map((p) => `${p.name} (${p.pid})`).join(', ')
    if (!asked && found.length > 0) {
      this.#writer.say(`the command left processes behind, which were stopped: ${list(found)}\n`)
    }
    if (survivors.length > 0) this.#writer.say(`processes could not be stopped: ${list(survivors)}\n`)
  }

  /** The end of the attempt, which is that of its last stage that is no tear-down. */
  #endOf({ end, exitCode, signal, failure }: StageEnd): CommandEnd {
    const tail = this.#writer.tail
    if (end === 'canceled') return { kind: 'canceled', tail }
    if (end === 'timed_out') return { kind: 'timed_out', timeoutMs: this.#order.timeoutMs ?? 0, exitCode, signal, tail }
    if (end === 'not_started') {
      assert(failure, 'what did not start has a reason')
      return { kind: 'not_started', failure }
    }
    if (failure) return { kind: 'unusable', failure, tail }
    const outputFile = takeResult(this.#paths, this.#redactor)
    if (exitCode !== null) return { kind: 'exited', exitCode, tail, outputFile }
    return { kind: 'signaled', signal: signal ?? 'unknown', tail, outputFile }
  }
}

const plansOf = (stage: Stage, commands: readonly (readonly string[])[]): StagePlan[] =>
  commands.map((argv, i) => ({ stage, number: i + 1, of: commands.length, argv }))

const isGood = (end: CommandEnd): boolean => end.kind === 'exited' && end.exitCode === 0

/**
 * Takes what the command wrote as its output, without secrets, to where nothing that runs on or comes after writes it anew. Null when it wrote nothing. What
 * no output can be is moved as it is, for the worker to say so.
 */
function takeResult({ dir, result, taken }: AttemptPaths, redactor: Redactor | null): string | null {
  try {
    const found = readPlain(result, LIMITS.outputBytes)
    if (found && 'text' in found) {
      writeFileSync(taken, redactor ? redactOutput(found.text, redactor) : found.text, { mode: 0o600 })
      rmSync(result)
    } else renameSync(result, taken)
    return taken
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    // It cannot be read, or the disk is full. What may have its secrets still is given to nobody, and no worker takes a directory for an output.
    return dir
  }
}
