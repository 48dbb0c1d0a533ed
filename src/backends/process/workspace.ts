import { mkdir, readdir, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { Failure } from '../../domain/failure.ts'
import type { CommandSpec } from '../backend.ts'
import { type AttemptPaths, type RootPaths, writeJson } from './layout.ts'

const PRIVATE = 0o700

/** Makes the directories below the root. Twice is safe. */
export async function prepareRoot(paths: RootPaths): Promise<void> {
  for (const dir of [paths.hosts, paths.attempts, paths.trash]) await makeDirs(dir)
}

/** Not the `recursive` of the runtime: that turns for ever where making a directory below an existing one says ENOENT, as in /proc. */
async function makeDirs(dir: string, { isSecondTry } = { isSecondTry: false }): Promise<void> {
  try {
    await mkdir(dir, { mode: PRIVATE })
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' && !isSecondTry) {
      // Another command that starts just now may have made the parent meanwhile: only a second ENOENT is the file system's word.
      if (!(await isDirectory(dirname(dir)))) await makeDirs(dirname(dir))
      await makeDirs(dir, { isSecondTry: true })
    } else if (errno !== 'EEXIST' || !(await isDirectory(dir))) throw error
  }
}

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  )

/** Makes the attempt's directory; false when it was there. */
export async function makeAttemptDir(paths: AttemptPaths): Promise<boolean> {
  try {
    await mkdir(paths.dir, { mode: PRIVATE })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw error
  }
  return true
}

/** Fills the attempt's directory. The environment stays out of it: it may hold secrets. */
export async function writeAttempt(paths: AttemptPaths, spec: CommandSpec): Promise<void> {
  const { key, note, argv, workdir, timeoutMs, killGraceMs, keepOnFailureMs } = spec
  await writeJson(paths.spec, { key, note, argv, workdir, timeoutMs, killGraceMs, keepOnFailureMs })
  await mkdir(paths.work, { mode: PRIVATE })
  if (spec.stdin !== null) await writeFile(paths.stdin, spec.stdin, { mode: 0o600 })
}

/** The directory in which the command starts. A relative one stays below the workspace and is made; an absolute one must exist. */
export async function prepareWorkdir(workspace: string, workdir: string | null): Promise<string> {
  if (workdir === null) return workspace
  const path = resolve(workspace, workdir)
  if (!isAbsolute(workdir)) {
    const inside = relative(workspace, path)
    if (inside === '..' || inside.startsWith('../')) {
      throw new Failure('backend.workdir_invalid', `resolving the working directory ${workdir}`, {
        evidence: { workdir, path, reason: 'it leads out of the workspace' },
      })
    }
    await makeDirs(path)
    return path
  }
  let found = 'it does not exist'
  try {
    if ((await stat(path)).isDirectory()) return path
    found = 'it is not a directory'
  } catch (error) {
    if (errnoOf(error) === 'EACCES') found = 'the worker may not enter it'
  }
  throw new Failure('backend.workdir_invalid', `looking at the working directory ${workdir}`, {
    evidence: { workdir, path, reason: found },
  })
}

/** What an error of the file system below the root means. */
export async function workspaceFailure(problem: unknown, path: string, root: RootPaths): Promise<Failure> {
  if (problem instanceof Failure) return problem
  const errno = errnoOf(problem)
  const message = `preparing the workspace ${path}`
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    const at = await nearestExisting(path)
    const evidence = { path, errno, free_bytes: await freeBytes(at), workspaces: await count(root.attempts) }
    return new Failure('backend.disk_full', message, { cause: problem, evidence })
  }
  if (errno === 'EMFILE' || errno === 'ENFILE' || errno === 'ENOMEM') {
    return new Failure('backend.start_failed', message, { cause: problem, evidence: { path, errno } })
  }
  const at = await nearestExisting(path)
  const owner = await stat(at).catch(() => null)
  return new Failure('backend.workspace_not_writable', message, {
    cause: problem,
    evidence: {
      path,
      errno,
      nearest_existing: at,
      ...(owner ? { owner: owner.uid, group: owner.gid, mode: (owner.mode & 0o7777).toString(8) } : {}),
      worker_user: process.getuid?.() ?? null,
    },
  })
}

export function errnoOf(error: unknown): string | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
}

async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const exists = await stat(at).then(
      () => true,
      () => false,
    )
    if (exists || at === dirname(at)) return at
  }
}

async function freeBytes(path: string): Promise<number | null> {
  const fs = await statfs(path).catch(() => null)
  return fs === null ? null : fs.bavail * fs.bsize
}

const count = async (dir: string): Promise<number> => (await readdir(dir).catch(() => [])).length

/** A path below the trash that nothing has yet. */
export const trashPath = (root: RootPaths, name: string, suffix: string): string =>
  join(root.trash, `${name}.${suffix}`)
