import { open } from 'node:fs/promises'
import type { Deadlines } from '../base/index.ts'
import type { ExchangeLane } from '../contract/exchange.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ArtifactRule } from '../domain/workflow.ts'
import type { Attempt } from './attempt.ts'
import { CollectProblem, collectFiles, type FoundFile } from './collect-files.ts'
import { withDeadline } from './deadline.ts'
import type { Link } from './link.ts'

/** How often a content is sent that does not arrive as it left: a file that is still written to changes meanwhile. */
const ROUNDS = 3
const ANSWER_MS = 30_000

export interface ShipDeps {
  lane: ExchangeLane
  deadlines: Deadlines
  link: Link
  /** Null between two sessions. */
  session(): string | null
  /** Aborts when the worker stops. */
  signal: AbortSignal
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
  readonly #deps: ShipDeps

  constructor(deps: ShipDeps) {
    this.#deps = deps
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
      await this.#ask(attempt, (at, signal) => this.#deps.lane.exports({ ...at, env }, signal))
      return null
    } catch (error) {
      return failureOf(
        error,
        `handing on the variables of step ${attempt.assignment.name} of ${attempt.assignment.runId}`,
      )
    }
  }

  async #send(attempt: Attempt, files: readonly FoundFile[], what: string): Promise<FailureRecord | null> {
    const listed = files.map(({ name, bytes, sha256, retentionMs }) => ({ name, bytes, sha256, retentionMs }))
    for (let round = 0; ; round++) {
      const answer = await this.#ask(attempt, (at, signal) =>
        this.#deps.lane.artifacts({ ...at, files: listed, sent: round > 0 }, signal),
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
  async #sendContent(attempt: Attempt, { file, sha256, bytes }: FoundFile): Promise<boolean> {
    const handle = await open(file, 'r')
    try {
      const buffer = Buffer.alloc(Math.min(LIMITS.artifactChunkBytes, Math.max(1, bytes)))
      for (let index = 0; index * LIMITS.artifactChunkBytes < bytes; index++) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, index * LIMITS.artifactChunkBytes)
        if (bytesRead === 0) return true // it became shorter; the server will say that it is not right
        const base64 = buffer.toString('base64', 0, bytesRead)
        const kept = await this.#ask(attempt, (at, signal) =>
          this.#deps.lane.chunk({ ...at, sha256, index, base64 }, signal),
        )
        if (kept === null) return false
      }
      return true
    } finally {
      await handle.close()
    }
  }

  /** Asks until there is an answer; null when the attempt is not ours any more, or the worker stops. */
  async #ask<T>(
    attempt: Attempt,
    call: (at: { session: string; step: string; fence: number }, signal: AbortSignal) => Promise<T>,
  ): Promise<T | null> {
    const { session, deadlines, link, signal } = this.#deps
    const { step, fence } = attempt.assignment
    for (let tries = 1; !attempt.gone && attempt.stopReason === null && !signal.aborted; tries++) {
      const current = session()
      if (current !== null) {
        try {
          const answer = await withDeadline(deadlines, { ms: ANSWER_MS, signal }, (cut) =>
            call({ session: current, step, fence }, cut),
          )
          link.up()
          return answer
        } catch (error) {
          if (signal.aborted) return null
          // What the server refuses it will refuse again; everything else passes.
          if (error instanceof Failure && (error.code.startsWith('request.') || error.code === 'internal.bug'))
            throw error
          link.down(error)
        }
      }
      await link.rest(tries, signal)
    }
    return null
  }
}
