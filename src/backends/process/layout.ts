import { createHash } from 'node:crypto'
import { open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { CommandEnd, CommandTraces } from '../backend.ts'

/**
 * What lies below the root of a worker:
 *
 *   hosts/<id>.sock, .log     one per living shim host
 *   attempts/<name>/          one per attempt, see `AttemptPaths`
 *   trash/                    what is being removed; emptied at the next start when a removal was cut short
 */
export interface RootPaths {
  root: string
  hosts: string
  attempts: string
  trash: string
}

export interface AttemptPaths {
  dir: string
  /** Where the command works. */
  work: string
  /** `AttemptRecord`, without the environment: that holds secrets and is never needed twice. */
  spec: string
  /** A symbolic link whose target is the id of the shim host that took the attempt. Made once, so that one taker wins. */
  claim: string
  /** Frames, see `frames.ts`. */
  output: string
  /** `ExitRecord`; there when the attempt has ended. */
  exit: string
  stdin: string
  /** Where the command may leave its JSON output. */
  result: string
  /** What was taken as the output when the command ended; without secrets. */
  taken: string
  /** Where commands may leave variables. */
  env: string
  /** `KeptRecord`; there when the attempt was forgotten and its workspace kept. */
  kept: string
}

export interface AttemptRecord {
  key: string
  note: string
  argv: string[]
  workdir: string | null
  timeoutMs: number | null
  killGraceMs: number
  keepOnFailureMs: number | null
}

export interface ExitRecord {
  /** ms since the epoch; null when it never started. */
  startedAt: number | null
  endedAt: number
  end: CommandEnd
  traces?: CommandTraces
}

export interface KeptRecord {
  until: number
}

/** Every process of an attempt carries this variable; its value, the attempt's directory, is unique on the machine. */
export const MARKER = 'ORRERY_ATTEMPT_DIR'

export const rootPaths = (root: string): RootPaths => ({
  root,
  hosts: join(root, 'hosts'),
  attempts: join(root, 'attempts'),
  trash: join(root, 'trash'),
})

export const attemptPaths = (dir: string): AttemptPaths => ({
  dir,
  work: join(dir, 'work'),
  spec: join(dir, 'spec.json'),
  claim: join(dir, 'claim'),
  output: join(dir, 'output'),
  exit: join(dir, 'exit.json'),
  stdin: join(dir, 'stdin'),
  result: join(dir, 'result.json'),
  taken: join(dir, 'taken'),
  env: join(dir, 'env'),
  kept: join(dir, 'kept.json'),
})

const NAME_CHARS_MAX = 120

/** A file name that stands for the key: readable, never hidden, within what file systems allow, different for different keys. */
export function directoryName(key: string): string {
  const safe = key.replace(/[^A-Za-z0-9._@-]/g, '_').replace(/^\./, '_')
  if (safe === key && safe.length <= NAME_CHARS_MAX) return safe
  return `${safe.slice(0, NAME_CHARS_MAX)}~${createHash('sha256').update(key).digest('hex').slice(0, 16)}`
}

/** Writes the file whole or not at all, also when this process or the machine dies in the middle. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  const handle = await open(`${path}.tmp`, 'w', 0o600)
  try {
    await handle.writeFile(JSON.stringify(value))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(`${path}.tmp`, path)
}

/** Null when the file is absent or is not what was written there. */
export async function readJson<T>(path: string, isWhole: (value: Partial<T>) => boolean): Promise<T | null> {
  let handle
  try {
    handle = await open(path, 'r')
  } catch {
    return null
  }
  try {
    const value: unknown = JSON.parse(await handle.readFile('utf8'))
    // Written by `writeJson` into a directory that only this user may enter; the check is for a file cut short or foreign.
    return typeof value === 'object' && value !== null && isWhole(value) ? (value as T) : null
  } catch {
    return null
  } finally {
    await handle.close()
  }
}

export const readAttempt = (paths: AttemptPaths): Promise<AttemptRecord | null> =>
  readJson<AttemptRecord>(paths.spec, (v) => typeof v.key === 'string' && typeof v.note === 'string')

export const readExit = (paths: AttemptPaths): Promise<ExitRecord | null> =>
  readJson<ExitRecord>(paths.exit, (v) => typeof v.endedAt === 'number' && typeof v.end?.kind === 'string')

export const readKept = (paths: AttemptPaths): Promise<KeptRecord | null> =>
  readJson<KeptRecord>(paths.kept, (v) => typeof v.until === 'number')
