import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  write,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { type Deferred, deferred } from '../base/deferred.ts'

export interface RotatingFileOptions {
  path: string
  /** A file that would grow beyond this is put aside first. */
  maxBytes: number
  /** How many that were put aside are kept, as `<path>.1` (the newest) and up. */
  keep: number
  /** Lines that wait for the disk, in bytes; more are dropped. */
  bufferBytes: number
  /** Told once when writing fails, and once more when it works again. */
  onTrouble(trouble: { error: string; path: string } | { recovered: true; dropped: number; path: string }): void
}

/**
 * A log file. Lines are handed to the kernel behind the caller's back, in order; when the disk is full or the directory gone, lines
 * are counted and dropped until it works again. A file that somebody else moved, removed or rotated is opened anew.
 */
export class RotatingFile {
  readonly #options: RotatingFileOptions
  #fd: number | null = null
  #size = 0
  #waiting: string[] = []
  #waitingBytes = 0
  #isWriting = false
  #underWay = ''
  #settled: Deferred<void> | null = null
  #isFailing = false
  #droppedSince = 0
  /** Lines that never got to the file. */
  dropped = 0

  constructor(options: RotatingFileOptions) {
    this.#options = options
  }

  get path(): string {
    return this.#options.path
  }

  /** Never throws and never waits. */
  write(line: string): void {
    const bytes = Buffer.byteLength(line)
    if (this.#waitingBytes + bytes > this.#options.bufferBytes) return this.#drop(1)
    this.#waiting.push(line)
    this.#waitingBytes += bytes
    if (!this.#isWriting) this.#next()
  }

  /** Resolves when all that was given is written or dropped. */
  settled(): Promise<void> {
    return this.#isWriting ? (this.#settled ??= deferred()).promise : Promise.resolve()
  }

  /**
   * For the very end of a process that cannot wait: what waits is written at once. What is on its way to the disk is written once
   * more, because nobody will hear whether it got there.
   */
  flushNow(): void {
    const taken = this.#take()
    const text = this.#underWay + (taken?.text ?? '')
    if (text === '') return
    try {
      writeSync(this.#open(Buffer.byteLength(text)), text)
    } catch {
      // There is nobody left to tell.
    }
  }

  async close(): Promise<void> {
    await this.settled()
    this.#close()
  }

  #take(): { text: string; lines: number } | null {
    if (this.#waiting.length === 0) return null
    const text = this.#waiting.join('')
    const lines = this.#waiting.length
    this.#waiting = []
    this.#waitingBytes = 0
    return { text, lines }
  }

  #next(): void {
    const taken = this.#take()
    if (taken === null) {
      this.#settled?.resolve()
      this.#settled = null
      return
    }
    const data = Buffer.from(taken.text)
    let fd: number
    try {
      fd = this.#open(data.length)
    } catch (error) {
      this.#failed(error, taken.lines)
      this.#next()
      return
    }
    this.#isWriting = true
    this.#underWay = taken.text
    this.#writeAll(fd, data, (error) => {
      this.#isWriting = false
      this.#underWay = ''
      if (error) this.#failed(error, taken.lines)
      else {
        this.#size += data.length
        this.#worked()
      }
      this.#next()
    })
  }

  #writeAll(fd: number, data: Buffer, done: (error: Error | null) => void): void {
    write(fd, data, (error, written) => {
      if (error) done(error)
      else if (written < data.length) this.#writeAll(fd, data.subarray(written), done)
      else done(null)
    })
  }

  /** The descriptor to write `bytes` more to. */
  #open(bytes: number): number {
    const { path, maxBytes } = this.#options
    if (this.#fd !== null && !this.#isOurs(this.#fd)) this.#close()
    let fd = this.#fd ?? this.#reopen()
    if (this.#size > 0 && this.#size + bytes > maxBytes) {
      this.#close()
      this.#putAside(path)
      fd = this.#reopen()
    }
    return fd
  }

  #reopen(): number {
    const { path } = this.#options
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const fd = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, 0o600)
    this.#fd = fd
    this.#size = fstatSync(fd).size
    return fd
  }

  /** Whether the path still leads to what is open; another process, or logrotate, may have put it aside. */
  #isOurs(fd: number): boolean {
    const there = statSync(this.#options.path, { throwIfNoEntry: false })
    const mine = fstatSync(fd)
    if (!there || there.ino !== mine.ino || there.dev !== mine.dev) return false
    this.#size = mine.size
    return true
  }

  #putAside(path: string): void {
    const { keep } = this.#options
    if (keep === 0) return rmSync(path, { force: true })
    for (let n = keep - 1; n >= 1; n--)
      if (statSync(`${path}.${n}`, { throwIfNoEntry: false })) renameSync(`${path}.${n}`, `${path}.${n + 1}`)
    renameSync(path, `${path}.1`)
  }

  #close(): void {
    if (this.#fd === null) return
    try {
      closeSync(this.#fd)
    } catch {
      // It is gone either way.
    }
    this.#fd = null
  }

  #drop(lines: number): void {
    this.dropped += lines
    this.#droppedSince += lines
  }

  #failed(error: unknown, lines: number): void {
    this.#drop(lines)
    this.#close()
    if (this.#isFailing) return
    this.#isFailing = true
    this.#options.onTrouble({ error: error instanceof Error ? error.message : String(error), path: this.path })
  }

  #worked(): void {
    if (!this.#isFailing) return
    this.#isFailing = false
    this.#options.onTrouble({ recovered: true, dropped: this.#droppedSince, path: this.path })
    this.#droppedSince = 0
  }
}
