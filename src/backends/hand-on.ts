import { lstatSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { resolve, sep } from 'node:path'
import type { Redactor } from '../base/index.ts'
import { exportsTooLarge, isReservedVariable, parseExports } from '../domain/exported-env.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Taken } from './backend.ts'
import { redactOutput } from './redact-output.ts'

/** Variables that the commands of one attempt left so far, and what is wrong with the last of them. */
export interface HandedOn {
  env: Readonly<Record<string, string>>
  failure: FailureRecord | null
}

/**
 * Reads what a command wrote to its `$ORRERY_ENV` and removes the file, so that what was written there in the clear stays nowhere. A value in which a
 * secret stands is refused: it would be stored. `env` goes on from `before`.
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
    const { size } = statSync(path)
    // Twice, because the marks of values that go over several lines do not count.
    if (size > 2 * LIMITS.exportBytes) return refuse('env.too_large', { bytes: size, limit: LIMITS.exportBytes })
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return { env: before, failure: null }
    return refuse('env.malformed', { problem: `it cannot be read: ${String(error)}` })
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
  const parsed = parseExports(text)
  if (parsed.kind === 'malformed') return refuse('env.malformed', { line: parsed.line, problem: parsed.problem })
  for (const [name, value] of Object.entries(parsed.env)) {
    if (isReservedVariable(name)) return refuse('env.refused', { name, reason: 'the name is reserved' })
    if (options.redactor && options.redactor.text(value) !== value)
      return refuse('env.refused', { name, reason: 'a secret stands in its value' })
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
