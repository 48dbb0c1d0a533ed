import { open } from 'node:fs/promises'
import type { ExchangeLane } from '../contract/exchange.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ArtifactRule } from '../domain/workflow.ts'
import type { Attempt } from './attempt.ts'
import { CollectProblem, collectFiles, type FoundFile } from './collect-files.ts'
import type { AttemptAsker } from './attempt-asker.ts'

/** How often a content is sent that does not arrive as it left: a file that is still written to changes meanwhile. */
const ROUNDS = 3

/** A file that is in memory. */
export interface HeldFile extends ShippedFile {
  retentionMs: number
  content: Buffer
}

export interface ShippedFile {
  name: string
  bytes: number
  sha256: string
}

function failureOf(error: unknown, doing: string): FailureRecord {
  if (error instanceof CollectProblem) return error.failure
  if (error instanceof Failure) return error.toRecord()
  return failureRecord('artifact.unreadable', doing, { cause: error })
}

/** Gives the files that a step leaves to the server, before the step's end is told. */
export class FileShipping {
  readonly #lane: ExchangeLane
  readonly #asker: AttemptAsker

  constructor(lane: ExchangeLane, asker: AttemptAsker) {
    this.#lane = lane
    this.#asker = asker
  }

  /**
   * The files of a workspace, recorded; with why they could not be, as the step's failure. There is none when they are, and when the attempt is not ours
   * any more. Waits out an absence of the server for as long as the attempt is held.
   */
  async ship(
    attempt: Attempt,
    workspace: string,
    rules: readonly ArtifactRule[],
    { failed }: { failed: boolean },
  ): Promise<{ files: ShippedFile[]; failure: FailureRecord | null }> {
    const what = `step ${attempt.assignment.name} of ${attempt.assignment.runId}`
    try {
      const files = await collectFiles(workspace, rules, { what, failed })
      const listed = files.map(({ name, bytes, sha256 }) => ({ name, bytes, sha256 }))
      return { files: listed, failure: files.length === 0 ? null : await this.#send(attempt, files, what) }
    } catch (error) {
      return { files: [], failure: failureOf(error, `taking the files of ${what}`) }
    }
  }

  /** The variables that a step hands on, recorded. Gives why they could not be. */
  async export(attempt: Attempt, env: Record<string, string>): Promise<FailureRecord | null> {
    try {
      await this.#asker.ask(attempt, (at, signal) => this.#lane.exports({ ...at, env }, signal))
      return null
    } catch (error) {
      return failureOf(
        error,
        `handing on the variables of step ${attempt.assignment.name} of ${attempt.assignment.runId}`,
      )
    }
  }

  /** One file that is in memory, recorded; or why it is not. */
  async keep(attempt: Attempt, file: HeldFile): Promise<'kept' | 'not_ours' | FailureRecord> {
    try {
      const failure = await this.#send(
        attempt,
        [file],
        `step ${attempt.assignment.name} of ${attempt.assignment.runId}`,
      )
      if (failure) return failure
      return attempt.gone || attempt.stopReason !== null ? 'not_ours' : 'kept'
    } catch (error) {
      return failureOf(error, `sending ${file.name}`)
    }
  }

  async #send(attempt: Attempt, files: readonly (FoundFile | HeldFile)[], what: string): Promise<FailureRecord | null> {
    const listed = files.map(({ name, bytes, sha256, retentionMs }) => ({ name, bytes, sha256, retentionMs }))
    for (let round = 0; ; round++) {
      const answer = await this.#asker.ask(attempt, (at, signal) =>
        this.#lane.artifacts({ ...at, files: listed, sent: round > 0 }, signal),
      )
      if (answer === null || answer.state !== 'open') return null
      if (round === ROUNDS) {
        const changed = files.filter((file) => answer.missing.includes(file.sha256)).map((file) => file.name)
        return failureRecord('artifact.unreadable', `sending the files of ${what}`, {
          evidence: { files: changed.slice(0, 20), problem: 'they are not what they were when they were first read' },
        })
      }
      for (const sha256 of answer.missing) {
        const file = files.find((f) => f.sha256 === sha256)
        if (file && !(await this.#sendContent(attempt, file))) return null
      }
    }
  }

  /** False when the attempt is not ours any more. */
  async #sendContent(attempt: Attempt, source: FoundFile | HeldFile): Promise<boolean> {
    const { sha256, bytes } = source
    const handle = 'file' in source ? await open(source.file, 'r') : null
    const size = LIMITS.artifactChunkBytes
    try {
      const buffer = Buffer.alloc(handle ? Math.min(size, Math.max(1, bytes)) : 0)
      for (let index = 0; index * size < bytes; index++) {
        const piece = handle
          ? buffer.subarray(0, (await handle.read(buffer, 0, buffer.length, index * size)).bytesRead)
          : 'content' in source && source.content.subarray(index * size, (index + 1) * size)
        if (!piece || piece.length === 0) return true // it became shorter; the server will say that it is not right
        const base64 = piece.toString('base64')
        const kept = await this.#asker.ask(attempt, (at, signal) =>
          this.#lane.chunk({ ...at, sha256, index, base64 }, signal),
        )
        if (kept === null) return false
      }
      return true
    } finally {
      await handle?.close()
    }
  }
}
