import { execFile } from 'node:child_process'
import { constants, openSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { promisify } from 'node:util'

const BATCH = 32
const LOW = 8

export interface CommandPipe {
  readable: Socket
  /** The end for the child; to be closed here once the child has it. */
  writeFd: number
}

/**
 * Real pipes. What the runtime itself gives a child are socket pairs, and those cannot be opened by name: a script that
 * writes to /dev/stderr, or a `tee /dev/stdout`, would fail. A FIFO without its name is a pipe. Making them by the batch
 * costs one short process for 16 commands.
 */
export class PipePool {
  readonly #prefix: string
  #names: string[] = []
  #made = 0
  #refill: Promise<void> | null = null

  /** FIFOs are made in the current directory, as `<prefix>.<n>.fifo`. */
  constructor(prefix: string) {
    this.#prefix = prefix
  }

  /** Null where this machine has no mkfifo. */
  async take(): Promise<CommandPipe | null> {
    if (this.#names.length < LOW) this.#refill ??= this.#make().finally(() => (this.#refill = null))
    if (this.#names.length === 0) await this.#refill
    const name = this.#names.pop()
    if (name === undefined) return null
    const readFd = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK)
    const writeFd = openSync(name, constants.O_WRONLY)
    unlinkSync(name)
    return { readable: new Socket({ fd: readFd, readable: true, writable: false }), writeFd }
  }

  /** Removes the names that nothing used. */
  clear(): void {
    for (const name of this.#names.splice(0)) unlinkSync(name)
  }

  async #make(): Promise<void> {
    const names = Array.from({ length: BATCH }, () => `${this.#prefix}.${++this.#made}.fifo`)
    try {
      await promisify(execFile)('mkfifo', ['-m', '600', ...names], { env: { PATH: '/usr/local/bin:/usr/bin:/bin' } })
      this.#names.push(...names)
    } catch (error) {
      // Standard error of the host is its log file.
      process.stderr.write(`no pipes with a name; commands cannot open /dev/stdout and /dev/stderr: ${String(error)}\n`)
    }
  }
}
