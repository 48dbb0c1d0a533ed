import { access, constants, type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock, Log } from '../base/index.ts'
import { Failure } from '../domain/failure.ts'
import type { Assignment } from '../contract/exchange.ts'
import type { EndBody, PendingReport } from './attempt.ts'
import { isEnd } from './attempt.ts'

/** An end report as it lies on disk: times by the host's clock, since the monotonic one starts anew with each process. */
export interface StoredEnd {
  assignment: Assignment
  seq: number
  startedAt: number | null
  endedAt: number | null
  body: EndBody
}

/** How far the server has a command's log, for the life that may adopt it. */
export interface LogMark {
  seq: number
  logIndex: number
}

type Line =
  | { t: 'end'; key: string; end: StoredEnd }
  | { t: 'mark'; key: string; mark: LogMark }
  | { t: 'done'; key: string }

const COMPACT_BYTES = 4 * 1024 * 1024

/**
 * End reports that the server has not acknowledged, so that they outlive the process. One file of JSON lines, only appended
 * to; a torn last line is what a crash leaves and is passed over. Without a directory all of it is memory.
 */
export class Outbox {
  readonly #ends = new Map<string, StoredEnd>()
  readonly #marks = new Map<string, LogMark>()
  readonly #dir: string | null
  readonly #clock: Clock
  readonly #log: Log
  #file: FileHandle | null = null
  #bytes = 0
  #waiting: Line[] = []
  #writing: Promise<void> | null = null
  #failing = false

  private constructor(dir: string | null, clock: Clock, log: Log) {
    this.#dir = dir
    this.#clock = clock
    this.#log = log
  }

  static async open(deps: { dir: string | null; clock: Clock; log: Log }): Promise<Outbox> {
    const outbox = new Outbox(deps.dir, deps.clock, deps.log)
    if (deps.dir !== null) {
      await makeWritable(deps.dir)
      await outbox.#load(join(deps.dir, 'outbox.jsonl'))
    }
    return outbox
  }

  /** What an earlier life left unacknowledged. */
  get ends(): ReadonlyMap<string, StoredEnd> {
    return this.#ends
  }

  get size(): number {
    return this.#ends.size
  }

  markOf(key: string): LogMark | null {
    return this.#marks.get(key) ?? null
  }

  /** Resolves when the end reports among `reports` are on disk; also when the disk fails, which is logged. */
  async save(reports: readonly PendingReport[]): Promise<void> {
    const offset = this.#clock.now() - this.#clock.monotonic()
    for (const report of reports) {
      if (!isEnd(report) || report.onDisk) continue
      report.onDisk = true
      const { attempt, seq, body } = report
      const startedAt = report.startedAt === null ? null : report.startedAt + offset
      const endedAt = report.endedAt === null ? null : report.endedAt + offset
      const end = { assignment: attempt.assignment, seq, startedAt, endedAt, body }
      this.#ends.set(attempt.key, end)
      this.#append({ t: 'end', key: attempt.key, end })
    }
    await this.#written()
  }

  /** Not synced: a mark that is lost costs log segments sent twice. */
  mark(key: string, mark: LogMark): void {
    if (this.#dir === null) return
    this.#marks.set(key, mark)
    this.#append({ t: 'mark', key, mark })
  }

  /** The attempt is over for the server too. */
  done(key: string): void {
    const known = this.#ends.delete(key)
    if (this.#marks.delete(key) || known) this.#append({ t: 'done', key })
  }

  async close(): Promise<void> {
    await this.#written()
    await this.#file?.close()
    this.#file = null
  }

  #append(line: Line): void {
    if (!this.#file) return
    this.#waiting.push(line)
    this.#writing ??= this.#write()
  }

  async #written(): Promise<void> {
    while (this.#writing) await this.#writing
  }

  /** Group commit: while one write is under way, the next gathers. */
  async #write(): Promise<void> {
    // What the same turn of the event loop still adds shall share this write.
    await Promise.resolve()
    while (this.#waiting.length > 0 && this.#file) {
      const lines = this.#waiting
      this.#waiting = []
      try {
        if (this.#ends.size === 0 && this.#marks.size === 0) {
          await this.#file.truncate(0)
          this.#bytes = 0
        } else if (this.#bytes > COMPACT_BYTES) {
          await this.#compact()
        } else {
          const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
          await this.#file.appendFile(text)
          this.#bytes += text.length
          if (lines.some((line) => line.t === 'end')) await this.#file.datasync()
        }
        this.#failing = false
      } catch (error) {
        if (!this.#failing) this.#log.warn('outbox cannot be written', { dir: this.#dir, error: String(error) })
        this.#failing = true
      }
    }
    this.#writing = null
  }

  async #compact(): Promise<void> {
    if (this.#dir === null) return
    const path = join(this.#dir, 'outbox.jsonl')
    const lines: Line[] = [
      ...[...this.#ends].map(([key, end]): Line => ({ t: 'end', key, end })),
      ...[...this.#marks].map(([key, mark]): Line => ({ t: 'mark', key, mark })),
    ]
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    const fresh = await open(`${path}.new`, 'w')
    await fresh.appendFile(text)
    await fresh.datasync()
    await fresh.close()
    await rename(`${path}.new`, path)
    await this.#file?.close()
    this.#file = await open(path, 'a')
    // What is alive may itself be large: the next compaction waits until as much again was appended.
    this.#bytes = 0
  }

  async #load(path: string): Promise<void> {
    let text = ''
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
    for (const line of text.split('\n')) {
      const parsed = line === '' ? null : parseLine(line)
      if (parsed?.t === 'end') this.#ends.set(parsed.key, parsed.end)
      else if (parsed?.t === 'mark') this.#marks.set(parsed.key, parsed.mark)
      else if (parsed?.t === 'done') {
        this.#ends.delete(parsed.key)
        this.#marks.delete(parsed.key)
      }
    }
    this.#file = await open(path, 'a')
    // A line torn by a crash must not swallow the first new one.
    if (text !== '') await this.#compact()
  }
}

function parseLine(line: string): Line | null {
  try {
    const value: unknown = JSON.parse(line)
    if (typeof value !== 'object' || value === null || !('t' in value) || !('key' in value)) return null
    // Written by this class: what parses as JSON and has these members is whole.
    return value as Line
  } catch {
    return null
  }
}

/** Makes the directory of the outbox. Throws `backend.workspace_not_writable` when nothing can be written there: found at the start, not with the first report. */
async function makeWritable(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true })
    await access(dir, constants.W_OK)
  } catch (error) {
    const errorCode = error instanceof Error && 'code' in error ? String(error.code) : ''
    throw new Failure('backend.workspace_not_writable', `opening the state directory ${dir}`, {
      cause: error,
      evidence: { directory: dir, errorCode },
    })
  }
}
