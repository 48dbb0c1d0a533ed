import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { glob, lstat, realpath } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ArtifactRule } from '../domain/workflow.ts'

export interface FoundFile {
  /** As it is recorded: relative, with forward slashes. */
  name: string
  /** Where it is. */
  file: string
  bytes: number
  sha256: string
  retentionMs: number
}

/** A file that cannot be taken, said as the step's failure. */
export class CollectProblem extends Error {
  readonly failure: FailureRecord

  constructor(failure: FailureRecord) {
    super(failure.message)
    this.failure = failure
  }
}

/**
 * The files of a workspace that the rules name, each once, by the first rule that names it. Regular files alone, and none that lies outside: neither
 * a link nor a pattern leads out. Throws CollectProblem.
 */
export async function collectFiles(
  workspace: string,
  rules: readonly ArtifactRule[],
  options: { what: string; failed: boolean },
): Promise<FoundFile[]> {
  const root = await realpath(workspace)
  const found = new Map<string, FoundFile>()
  for (const rule of rules) {
    if (options.failed && !rule.always) continue
    let count = 0
    for await (const match of glob(rule.path, { cwd: root })) {
      const file = join(root, match)
      if (!(await isOwnFile(root, file))) continue
      count += 1
      const name = relative(root, file).split(sep).join('/')
      if (found.has(name)) continue
      if (found.size >= LIMITS.artifactsPerStepMax)
        throw problem('artifact.too_many', `collecting the files of ${options.what}`, {
          pattern: rule.path,
          limit: LIMITS.artifactsPerStepMax,
        })
      found.set(name, await describeFile(name, file, rule, options.what))
    }
    if (count === 0 && !rule.optional && !options.failed)
      throw problem('artifact.none_found', `collecting the files of ${options.what}`, { pattern: rule.path })
  }
  return [...found.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

async function isOwnFile(root: string, file: string): Promise<boolean> {
  const entry = await lstat(file).catch(() => null) // gone since it was listed
  if (!entry?.isFile()) return false
  // A folder on the way may be a link.
  return (await realpath(file)).startsWith(`${root}${sep}`)
}

async function describeFile(name: string, file: string, rule: ArtifactRule, what: string): Promise<FoundFile> {
  const isUsable = name.length <= LIMITS.artifactNameChars && !/[\\\0]/.test(name) && name.isWellFormed()
  if (!isUsable || name.includes('\ufffd'))
    throw problem('artifact.unreadable', `taking a file of ${what}`, { name, problem: 'its name cannot be kept' })
  try {
    const { size } = await lstat(file)
    if (size > LIMITS.artifactBytes)
      throw problem('artifact.too_large', `taking ${name} of ${what}`, { bytes: size, limit: LIMITS.artifactBytes })
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      hash.update(chunk)
      bytes += chunk.length
    }
    return { name, file, bytes, sha256: hash.digest('hex'), retentionMs: rule.retentionMs }
  } catch (error) {
    if (error instanceof CollectProblem) throw error
    throw problem('artifact.unreadable', `taking ${name} of ${what}`, { name, problem: String(error) })
  }
}

const problem = (
  code: 'artifact.too_many' | 'artifact.none_found' | 'artifact.unreadable' | 'artifact.too_large',
  message: string,
  evidence: Record<string, string | number>,
): CollectProblem => new CollectProblem(failureRecord(code, message, { evidence }))
