import { lstatSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { resolve, sep } from 'node:path'
import type { Redactor } from '../base/index.ts'
import { exportsTooLarge, isReservedVariable, parseExports } from '../domain/exported-env.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Taken } from './backend.ts'
import { readPlain } from './read-plain.ts'
import { redactOutput } from './redact-output.ts'

/** Variables that the commands of one attempt left so far, and what is wrong with the last of them. */
export interface HandedOn {
  env: Readonly<Record<string, string>>
  failure: FailureRecord | null
}

/**
 * Reads what a command wrote to its `$ORRERY_ENV` and removes the file, so that what was written there in the clear stays nowhere. What a secret
 * stands in is refused: it would be stored. `env` goes on from `before`.
 */
export function takeExports(
  path: string,
  before: Readonly<Record<string, string>>,
  options: { redactor: Redactor | null; what: string },
): HandedOn {
  const refuse = (
    code: 'env.malformed' | 'env.refused' | 'env.too_large',
    evidence: Record<string, string | number>,
  ) => ({
    env: before,
    failure: failureRecord(code, `reading what ${options.what} wrote to $ORRERY_ENV`, { evidence }),
  })
  let text: string
  try {
    // Twice, because the marks of values that go over several lines do not count.
    const found = readPlain(path, 2 * LIMITS.exportBytes)
    if (found === null) return refuse('env.malformed', { problem: 'it is no file' })
    if ('bytes' in found) return refuse('env.too_large', { bytes: found.bytes, limit: LIMITS.exportBytes })
    text = found.text
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { env: before, failure: null }
    return refuse('env.malformed', { problem: `it cannot be read: ${String(error)}` })
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
  const { redactor } = options
  const isTelling = (part: string) => redactor !== null && redactor.text(part) !== part
  const parsed = parseExports(text)
  if (parsed.kind === 'malformed') return refuse('env.malformed', { line: parsed.line, problem: parsed.problem })
  for (const [name, value] of Object.entries(parsed.env)) {
    // A name that has a secret in it, or a part of one, is not told either.
    if (isTelling(name) || (isTelling(`${name}=${value}`) && !isTelling(value)))
      return refuse('env.refused', { reason: 'a secret stands in the name of a variable' })
    if (isTelling(value)) return refuse('env.refused', { name, reason: 'a secret stands in its value' })
    if (isReservedVariable(name)) return refuse('env.refused', { name, reason: 'the name is reserved' })
  }
  const env = { ...before, ...parsed.env }
  const excess = exportsTooLarge(env)
  return excess ? refuse('env.too_large', { ...excess }) : { env, failure: null }
}

/** Puts the file of a workspace that is to be the output where the worker finds it, without secrets. Never a file that lies outside. */
export function takeFile(file: string, options: { workspace: string; to: string; redactor: Redactor | null }): Taken {
  try {
    const root = realpathSync(options.workspace)
    const path = resolve(root, file)
    const real = realpathSync(path)
    if (!real.startsWith(`${root}${sep}`)) return { problem: 'outside' }
    const found = lstatSync(real)
    if (!found.isFile()) return { problem: 'no_file' }
    if (found.size > LIMITS.outputBytes) return { problem: 'too_large', bytes: found.size }
    return takeText(readFileSync(real, 'utf8'), options)
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? error.code : null
    return { problem: errno === 'ENOENT' || errno === 'ENOTDIR' ? 'absent' : 'unreadable' }
  }
}

/** The same with a text that was caught. */
export function takeText(text: string, { to, redactor }: { to: string; redactor: Redactor | null }): Taken {
  try {
    writeFileSync(to, redactor ? redactOutput(text, redactor) : text, { mode: 0o600 })
    return { file: to }
  } catch {
    return { problem: 'unreadable' }
  }
}
