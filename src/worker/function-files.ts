import { createHash } from 'node:crypto'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isPathBelow, type WantedFile } from '../domain/wanted-files.ts'
import { nearest } from '../base/index.ts'
import type { StepFile, StepFiles } from '../sdk/index.ts'
import type { Attempt } from './attempt.ts'
import type { FileFetching } from './fetch-files.ts'
import { notOurs } from './fetch-files.ts'
import { describe } from './outcome.ts'
import type { FileShipping } from './ship-files.ts'

/** The files of a function: those that it is given, and those that it leaves. */
export class FunctionFiles implements StepFiles {
  readonly #attempt: Attempt
  readonly #fetching: FileFetching
  readonly #shipping: FileShipping
  readonly #given: readonly WantedFile[]
  readonly #left = new Set<string>()

  constructor(
    attempt: Attempt,
    deps: { fetching: FileFetching; shipping: FileShipping; given: readonly WantedFile[] },
  ) {
    this.#attempt = attempt
    this.#fetching = deps.fetching
    this.#shipping = deps.shipping
    this.#given = deps.given
  }

  get given(): readonly StepFile[] {
    return this.#given.map(({ at, bytes, sha256 }) => ({ name: at, bytes, sha256 }))
  }

  async read(name: string): Promise<Uint8Array> {
    const file = this.#given.find((f) => f.at === name)
    if (!file) {
      const names = this.#given.map((f) => f.at)
      const near = nearest(name, names)
      throw new Failure('artifact.not_found', `reading ${name} in ${describe(this.#attempt)}`, {
        evidence: { name, given: names.slice(0, 50), ...(near ? { nearest: near } : {}) },
        remediation: 'A function reads the files that files of its step names; context.files.given lists them.',
      })
    }
    const parts: Buffer[] = []
    for await (const chunk of this.#fetching.read(this.#attempt, file)) parts.push(chunk)
    return Buffer.concat(parts)
  }

  async put(name: string, content: string | Uint8Array, options: { retentionMs?: number } = {}): Promise<StepFile> {
    const doing = `leaving ${name} from ${describe(this.#attempt)}`
    if (name.length > LIMITS.artifactNameChars || !name.isWellFormed() || !isPathBelow(name))
      throw new Failure('artifact.unreadable', doing, { evidence: { name, problem: 'its name cannot be kept' } })
    const bytes = typeof content === 'string' ? Buffer.from(content) : Buffer.from(content)
    if (bytes.length > LIMITS.artifactBytes)
      throw new Failure('artifact.too_large', doing, { evidence: { bytes: bytes.length, limit: LIMITS.artifactBytes } })
    this.#left.add(name)
    if (this.#left.size > LIMITS.artifactsPerStepMax)
      throw new Failure('artifact.too_many', doing, { evidence: { limit: LIMITS.artifactsPerStepMax } })
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const retentionMs = Math.min(
      LIMITS.artifactRetentionMaxMs,
      Math.max(0, Math.round(options.retentionMs ?? LIMITS.artifactRetentionMs)),
    )
    const file = { name, bytes: bytes.length, sha256, retentionMs, content: bytes }
    const kept = await this.#shipping.keep(this.#attempt, file)
    if (kept === 'not_ours') throw notOurs(this.#attempt)
    if (kept !== 'kept')
      throw new Failure(kept.code, kept.message, { ...(kept.evidence ? { evidence: kept.evidence } : {}) })
    return { name, bytes: bytes.length, sha256 }
  }
}
