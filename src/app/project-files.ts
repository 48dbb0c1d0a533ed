import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ProjectFile } from '../cli/index.ts'

/** Files of a template of this package, by their paths in a project. */
export async function readTemplate(name: string): Promise<ProjectFile[]> {
  const folder = join(import.meta.dirname, '..', '..', 'templates', name)
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return Promise.all(
    files.sort().map(async (file) => ({ path: file.slice(folder.length + 1), text: await readFile(file, 'utf8') })),
  )
}

/** Writes files that are not there yet, all or none. Gives those that are there already; nothing is written then. */
export async function makeFiles(files: readonly ProjectFile[]): Promise<string[]> {
  const existing: string[] = []
  for (const file of files) if (await isThere(file.path)) existing.push(file.path)
  if (existing.length > 0) return existing
  const made: string[] = []
  try {
    for (const { path, text } of files) {
      await mkdir(dirname(path), { recursive: true })
      // `wx`: whoever made the file meanwhile keeps it.
      await writeFile(path, text, { flag: 'wx' })
      made.push(path)
    }
  } catch (error) {
    for (const path of made) await rm(path, { force: true })
    throw error
  }
  return []
}

const isThere = (path: string): Promise<boolean> =>
  readFile(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT' && error.code !== 'ENOTDIR',
  )

/** Writes a file whole or not at all: under another name beside it first. False when it is there already and `force` is not set. */
export async function writeWhole(
  path: string,
  content: AsyncIterable<Uint8Array>,
  { force, check }: { force: boolean; check(): void },
): Promise<boolean> {
  if (!force && (await isThere(path))) return false
  const part = `${path}.part-${process.pid}`
  try {
    await writeFile(part, content, { flag: 'wx' })
    check()
    if (force) await rename(part, path)
    // A link does not write over what somebody else made meanwhile.
    else await link(part, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST' && !force) return false
    throw error
  } finally {
    await rm(part, { force: true })
  }
}
