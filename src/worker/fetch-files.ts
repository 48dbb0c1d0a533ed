import { createHash } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ExchangeLane } from '../contract/exchange.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isPathBelow, type WantedFile } from '../domain/wanted-files.ts'
import type { Attempt } from './attempt.ts'
import type { AttemptAsker } from './attempt-asker.ts'
import { describe } from './outcome.ts'

/** Brings files of earlier steps to an attempt. */
export class FileFetching {
  readonly #lane: ExchangeLane
  readonly #asker: AttemptAsker

  constructor(lane: ExchangeLane, asker: AttemptAsker) {
    this.#lane = lane
    this.#asker = asker
  }

  /** The files that the attempt is given. Throws `files.none_found` when something that its step has to have is not there, and `files.too_many`. */
  async list(attempt: Attempt): Promise<WantedFile[]> {
    const { work } = attempt.assignment
    const wants = ('files' in work && work.files) || []
    if (wants.length === 0) return []
    const answer = await this.#asker.ask(attempt, (at, signal) => this.#lane.wantedFiles(at, signal))
    if (answer === null || answer.state === 'stale') throw notOurs(attempt)
    const { files } = answer
    if (files.length > LIMITS.artifactsPerStepMax)
      throw new Failure('files.too_many', `gathering the files for ${describe(attempt)}`, {
        evidence: { limit: LIMITS.artifactsPerStepMax, wanted: wants.map(({ from, path }) => `${from}: ${path}`) },
      })
    for (const [i, { from, path, optional }] of wants.entries())
      if (!optional && !files.some((file) => file.want === i))
        throw new Failure('files.none_found', `gathering the files for ${describe(attempt)}`, {
          evidence: { from, pattern: path },
          remediation: `Step ${from} left nothing that fits ${path}: correct the pattern, or the artifacts of ${from}, or say optional: true. orrery artifacts list ${attempt.assignment.runId} shows what is there.`,
        })
    return files
  }

  /** Puts the files into a workspace. What was put there when it throws stays. */
  async fill(attempt: Attempt, workspace: string): Promise<void> {
    for (const file of await this.list(attempt)) {
      // A server that has gone wrong must not write where it likes.
      if (!isPathBelow(file.at)) throw new Failure('internal.bug', `placing ${file.at} for ${describe(attempt)}`)
      const path = join(workspace, file.at)
      await mkdir(dirname(path), { recursive: true })
      const handle = await open(path, 'w')
      try {
        for await (const chunk of this.read(attempt, file)) await handle.write(chunk)
      } finally {
        await handle.close()
      }
    }
  }

  /** The content of a file, piece by piece; throws at its end when it is not the one that was left. */
  async *read(attempt: Attempt, { at, sha256, bytes }: WantedFile): AsyncIterable<Buffer> {
    const hash = createHash('sha256')
    let left = bytes
    for (let index = 0; left > 0; index++) {
      const answer = await this.#asker.ask(attempt, (key, signal) =>
        this.#lane.wantedContent({ ...key, sha256, index }, signal),
      )
      if (answer === null) throw notOurs(attempt)
      // Its time was over while it was read.
      if (answer.base64 === null)
        throw new Failure('artifact.not_found', `reading ${at} for ${describe(attempt)}`, {
          evidence: { name: at, sha256 },
        })
      const chunk = Buffer.from(answer.base64, 'base64')
      left -= chunk.length
      hash.update(chunk)
      yield chunk
      if (chunk.length === 0) break
    }
    const found = hash.digest('hex')
    if (left !== 0 || found !== sha256)
      throw new Failure('artifact.checksum_mismatch', `reading ${at} for ${describe(attempt)}`, {
        evidence: { name: at, sha256, found, bytes, read: bytes - left },
      })
  }
}

/** Nobody is told: the attempt was canceled, or it is another's by now. */
export const notOurs = (attempt: Attempt): Failure =>
  new Failure('attempt.stale_lease', `working on files of ${describe(attempt)}`)
