import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { assert, type Clock } from '../../base/index.ts'
import type { PipePool } from './pipe-pool.ts'
import { ProcessTree } from './process-tree.ts'

export interface Exit {
  code: number | null
  signal: string | null
  leftProcesses: boolean
}

interface Birth {
  /** The executable, absolute. */
  file: string
  argv: readonly string[]
  cwd: string
  env: Record<string, string>
  /** A file; null for nothing to read. */
  stdin: string | null
  /** The attempt's directory. */
  dir: string
  /** The processes that earlier commands of the attempt left. */
  elders?: ProcessTree | null
}

/** One command of an attempt inside the shim host: a process, its pipes, and those that descend from it. */
export class StageProcess {
  readonly tree: ProcessTree
  readonly exited: Promise<Exit>
  readonly #pipes: { stdout: Readable; stderr: Readable }
  #hasExited = false

  /** Resolves when the kernel runs the command; rejects with the system's error when it does not. */
  static async start(birth: Birth, deps: { clock: Clock; pipes: PipePool }): Promise<StageProcess> {
    const stdout = await deps.pipes.take()
    const stderr = await deps.pipes.take()
    const fds = [stdout?.writeFd, stderr?.writeFd].filter((fd) => fd !== undefined)
    try {
      const stdin = birth.stdin === null ? 'ignore' : openSync(birth.stdin, 'r')
      if (stdin !== 'ignore') fds.push(stdin)
      const child = spawn(birth.file, birth.argv.slice(1), {
        argv0: birth.argv[0] ?? birth.file,
        cwd: birth.cwd,
        env: birth.env,
        detached: true,
        stdio: [stdin, stdout?.writeFd ?? 'pipe', stderr?.writeFd ?? 'pipe'],
      })
      const { pid } = child
      if (pid === undefined) throw await new Promise((resolve) => child.once('error', resolve))
      const { dir, elders = null } = birth
      const tree = new ProcessTree({ attemptDir: dir, group: pid, clock: deps.clock, elders })
      return new StageProcess(child, tree, stdout?.readable, stderr?.readable)
    } catch (error) {
      stdout?.readable.destroy()
      stderr?.readable.destroy()
      throw error
    } finally {
      for (const fd of fds) closeSync(fd)
    }
  }

  private constructor(child: ChildProcess, tree: ProcessTree, out: Readable | undefined, err: Readable | undefined) {
    const stdout = out ?? child.stdout
    const stderr = err ?? child.stderr
    assert(stdout && stderr, 'a command has pipes')
    this.#pipes = { stdout, stderr }
    this.tree = tree
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#hasExited = true
        resolve({ code, signal, leftProcesses: tree.leaderReaped() })
      })
    })
  }

  get hasExited(): boolean {
    return this.#hasExited
  }

  /** Gives on what is printed; resolves when nothing more can come. To be called once, before anything else happens. */
  pump(onChunk: (stream: 'stdout' | 'stderr', chunk: Buffer) => void): Promise<unknown> {
    return Promise.all(
      (['stdout', 'stderr'] as const).map(
        (stream) =>
          new Promise<void>((resolve) => {
            const pipe = this.#pipes[stream]
            pipe.on('data', (chunk: Buffer) => onChunk(stream, chunk))
            pipe.on('error', () => {}) // `close` follows
            pipe.once('close', resolve)
          }),
      ),
    )
  }

  hold(isHeld: boolean): void {
    for (const pipe of Object.values(this.#pipes)) {
      if (isHeld) pipe.pause()
      else pipe.resume()
    }
  }

  close(): void {
    for (const pipe of Object.values(this.#pipes)) pipe.destroy()
  }
}
