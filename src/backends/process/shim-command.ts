import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { assert, type Clock, Redactor } from '../../base/index.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CommandEnd } from '../backend.ts'
import { type AttemptPaths, attemptPaths, type ExitRecord } from './layout.ts'
import { OutputWriter } from './output-writer.ts'
import type { PipePool } from './pipe-pool.ts'
import { ProcessTree, type StopResult } from './process-tree.ts'
import type { StartOrder } from './shim-protocol.ts'

/** How long the pipes may stay open after the last process that we know of is gone. */
const DRAIN_MS = 1_000
/** Timers of the runtime take no longer delays. */
const SLEEP_MAX_MS = 86_400_000

interface Exit {
  code: number | null
  signal: string | null
  leftProcesses: boolean
}

interface CommandDeps {
  clock: Clock
  pipes: PipePool
  onOutput: () => void
}

interface Born {
  child: ChildProcess
  pid: number
  stdout: Readable | undefined
  stderr: Readable | undefined
}

/** One command inside the shim host: its process, its pipes, its clock and its end. */
export class ShimCommand {
  readonly key: string
  readonly startedAt: number
  /** Resolves once every process of the attempt is gone and its output is in the file. */
  readonly ended: Promise<ExitRecord>

  readonly #order: StartOrder
  readonly #clock: Clock
  readonly #paths: AttemptPaths
  readonly #redactor: Redactor | null
  readonly #pipes: { stdout: Readable; stderr: Readable }
  readonly #writer: OutputWriter
  readonly #tree: ProcessTree
  readonly #readers = new Map<string, number>()
  readonly #exited = Promise.withResolvers<Exit>()
  #hasExited = false
  #stopping: { reason: 'canceled' | 'timed_out'; done: Promise<StopResult> } | null = null

  /** Resolves when the kernel runs the command; rejects with the system's error when it does not. */
  static async start(order: StartOrder, deps: CommandDeps): Promise<ShimCommand> {
    const stdout = await deps.pipes.take()
    const stderr = await deps.pipes.take()
    const fds = [stdout?.writeFd, stderr?.writeFd].filter((fd) => fd !== undefined)
    try {
      const stdin = order.hasStdin ? openSync(attemptPaths(order.dir).stdin, 'r') : 'ignore'
      if (stdin !== 'ignore') fds.push(stdin)
      const child = spawn(order.file, order.argv.slice(1), {
        argv0: order.argv[0] ?? order.file,
        cwd: order.cwd,
        env: order.env,
        detached: true,
        stdio: [stdin, stdout?.writeFd ?? 'pipe', stderr?.writeFd ?? 'pipe'],
      })
      const { pid } = child
      if (pid === undefined) throw await new Promise((resolve) => child.once('error', resolve))
      return new ShimCommand(order, { child, pid, stdout: stdout?.readable, stderr: stderr?.readable }, deps)
    } catch (error) {
      stdout?.readable.destroy()
      stderr?.readable.destroy()
      throw error
    } finally {
      for (const fd of fds) closeSync(fd)
    }
  }

  private constructor(order: StartOrder, born: Born, deps: CommandDeps) {
    const { child, pid } = born
    const stdout = born.stdout ?? child.stdout
    const stderr = born.stderr ?? child.stderr
    assert(stdout && stderr, 'a command has pipes')
    this.key = order.key
    this.#order = order
    this.#clock = deps.clock
    this.startedAt = deps.clock.now()
    this.#paths = attemptPaths(order.dir)
    this.#pipes = { stdout, stderr }
    this.#redactor = order.redact ? new Redactor(order.redact) : null
    this.#tree = new ProcessTree({ attemptDir: order.dir, group: pid, clock: deps.clock })
    this.#writer = new OutputWriter({
      path: this.#paths.output,
      clock: deps.clock,
      redactor: this.#redactor,
      onWritten: () => {
        this.#press()
        deps.onOutput()
      },
    })
    child.once('exit', (code, signal) => {
      this.#hasExited = true
      this.#exited.resolve({ code, signal, leftProcesses: this.#tree.leaderReaped() })
    })
    const drained = Promise.all((['stdout', 'stderr'] as const).map((stream) => this.#pump(stream)))
    const over = new AbortController()
    if (order.timeoutMs !== null) void this.#timeOut(order.timeoutMs, over.signal)
    this.ended = this.#finish(drained).finally(() => over.abort())
  }

  /** TERM, grace, KILL. Nothing happens when the command has exited or is being stopped. */
  stop(reason: 'canceled' | 'timed_out'): void {
    if (this.#hasExited || this.#stopping !== null) return
    const done = this.#tree.stop({ graceMs: this.#order.killGraceMs })
    this.#stopping = { reason, done }
    this.#press()
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

  #pump(stream: 'stdout' | 'stderr'): Promise<void> {
    const pipe = this.#pipes[stream]
    return new Promise((resolve) => {
      pipe.on('data', (chunk: Buffer) => this.#writer.write(stream, chunk))
      pipe.on('error', () => {}) // `close` follows
      pipe.once('close', resolve)
    })
  }

  /** Stops or goes on reading. Without a reader, and once the end has begun, nothing holds the command up. */
  #press(): void {
    const slowest = Math.min(...this.#readers.values())
    const ahead = this.#writer.fileBytes - slowest > LIMITS.logBufferBytes
    const hold = ahead && !this.#hasExited && this.#stopping === null
    for (const pipe of Object.values(this.#pipes)) {
      if (hold) pipe.pause()
      else pipe.resume()
    }
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

  async #finish(drained: Promise<unknown>): Promise<ExitRecord> {
    const exit = await this.#exited.promise
    this.#press()
    const stopped = this.#stopping
      ? await this.#stopping.done
      : exit.leftProcesses
        ? await this.#tree.stop({ graceMs: this.#order.killGraceMs })
        : { found: [], survivors: [] }
    await Promise.race([drained, this.#clock.sleep(DRAIN_MS)])
    for (const pipe of Object.values(this.#pipes)) pipe.destroy()
    this.#sayLeftovers(stopped)
    this.#writer.finish()
    return { startedAt: this.startedAt, endedAt: this.#clock.now(), end: this.#endOf(exit) }
  }

  #sayLeftovers({ found, survivors }: StopResult): void {
    const list = (processes: StopResult['found']) => processes.map((p) => `${p.name} (${p.pid})`).join(', ')
    if (this.#stopping === null && found.length > 0) {
      this.#writer.say(`the command left processes behind, which were stopped: ${list(found)}\n`)
    }
    if (survivors.length > 0) this.#writer.say(`processes could not be stopped: ${list(survivors)}\n`)
  }

  #endOf({ code, signal }: Exit): CommandEnd {
    const tail = this.#writer.tail
    if (this.#stopping?.reason === 'canceled') return { kind: 'canceled', tail }
    if (this.#stopping?.reason === 'timed_out') {
      return { kind: 'timed_out', timeoutMs: this.#order.timeoutMs ?? 0, exitCode: code, signal, tail }
    }
    const outputFile = existsSync(this.#paths.result) ? this.#paths.result : null
    if (outputFile !== null && this.#redactor) redactFile(outputFile, this.#redactor)
    if (code !== null) return { kind: 'exited', exitCode: code, tail, outputFile }
    return { kind: 'signaled', signal: signal ?? 'unknown', tail, outputFile }
  }
}

/** Takes the secrets out of a file of JSON, or of what should be one. Larger ones than an output may be are never read by anybody. */
function redactFile(path: string, redactor: Redactor): void {
  try {
    if (statSync(path).size > LIMITS.outputBytes) return
    const text = readFileSync(path, 'utf8')
    const clean = redactJson(text, redactor)
    if (clean !== text) writeFileSync(path, clean)
  } catch {
    // No file that can be read and written: then it cannot be read as an output either.
  }
}

function redactJson(text: string, redactor: Redactor): string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return redactor.text(text)
  }
  const before = JSON.stringify(value)
  const after = JSON.stringify(redactor.json(value))
  return before === after ? text : after
}
