import { LIMITS } from '../../domain/limits.ts'
import type { Take, Taken } from '../backend.ts'
import { takeFile, takeText } from '../hand-on.ts'
import type { Redactor } from '../../base/index.ts'
import type { AttemptPaths } from './layout.ts'

/** Catches what becomes the output of an attempt. */
export class OutputTaker {
  readonly #take: Take
  #parts: Buffer[] = []
  #bytes = 0

  constructor(take: Take) {
    this.#take = take
  }

  /** A piece of what the command itself prints. More than an output may be is counted and not kept. */
  push(chunk: Buffer): void {
    if (this.#take.from !== 'stdout') return
    this.#bytes += chunk.length
    if (this.#bytes <= LIMITS.outputBytes) this.#parts.push(chunk)
    else this.#parts = []
  }

  take(paths: AttemptPaths, redactor: Redactor | null): Taken {
    const to = paths.taken
    if (this.#take.from === 'file') return takeFile(this.#take.path, { workspace: paths.work, to, redactor })
    if (this.#bytes > LIMITS.outputBytes) return { problem: 'too_large', bytes: this.#bytes }
    return takeText(Buffer.concat(this.#parts).toString('utf8'), { to, redactor })
  }
}
