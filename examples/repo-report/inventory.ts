import { createHash, hash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { lstat, mkdir, readFile, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { git, GitError, gitOrNull, gitRecords } from './git.ts'
import { languageOf } from './language.ts'

/**
 * What there is: the repository and its files. The list of files may be longer than a step's output may be, so it lies in
 * a file beside the reports, one JSON object a line, and the steps hand its path on.
 */

export const Facts = z.object({
  /** Top of the work tree, absolute and without symbolic links. */
  root: z.string(),
  /** Where the reports go, absolute. */
  out: z.string(),
  name: z.string(),
  /** Null: nothing was committed yet. */
  head: z.string().nullable(),
  branch: z.string().nullable(),
  commits: z.number(),
  /** When HEAD was committed. Ages count from here, so one commit always gives one report. */
  asOf: z.iso.datetime({ offset: true }).nullable(),
  /** The history is cut off (`git clone --depth`). */
  shallow: z.boolean(),
})

export const facts = defineFunction({
  input: z.object({ repo: z.string().min(1), out: z.string().min(1) }),
  output: Facts,
  async run({ repo, out }, { signal, log }) {
    const path = resolve(repo)
    const root = await findWorkTree(path, signal)
    await mkdir(out, { recursive: true })
    const options = { repo: root, signal }
    const head = await gitOrNull(options, 'rev-parse', '--verify', '--quiet', 'HEAD')
    log(head === null ? `${root} has no commits yet` : `${root} is at ${head}`)
    return {
      root,
      out: await realpath(out),
      name: basename(root),
      head,
      branch: await gitOrNull(options, 'symbolic-ref', '--short', '--quiet', 'HEAD'),
      commits: head === null ? 0 : Number(await git(options, 'rev-list', '--count', 'HEAD')),
      asOf: head === null ? null : await git(options, 'show', '--no-patch', '--format=%cI', 'HEAD'),
      shallow: (await git(options, 'rev-parse', '--is-shallow-repository')) === 'true',
    }
  },
})

async function findWorkTree(path: string, signal: AbortSignal): Promise<string> {
  const found = await stat(path).catch(() => null)
  if (!found) throw new Error(`${path} does not exist. Pass the path of a git repository: --input repo=PATH`)
  if (!found.isDirectory())
    throw new Error(`${path} is not a directory. Pass the directory of a git repository: --input repo=PATH`)
  try {
    return await realpath(await git({ repo: path, signal }, 'rev-parse', '--show-toplevel'))
  } catch (error) {
    if (!(error instanceof GitError))
      throw new Error('Could not run git. Install it and see that it is on the PATH.', { cause: error })
    if (/not a git repository/i.test(error.stderr)) {
      throw new Error(
        `${path} is not a git repository. Pass another path with --input repo=PATH, or run "git init" there.`,
        { cause: error },
      )
    }
    if (/work tree/i.test(error.stderr)) {
      throw new Error(
        `${path} is a bare repository, without files to read. Clone it and pass the clone: --input repo=PATH`,
        { cause: error },
      )
    }
    throw new Error(`git cannot read the repository ${path}`, { cause: error })
  }
}

const Entry = z.object({
  path: z.string(),
  bytes: z.number(),
  /** Symbolic links are counted, never followed; a submodule is a repository of its own. */
  kind: z.enum(['file', 'symlink', 'submodule']),
})
export type Entry = z.infer<typeof Entry>

export const Files = z.object({
  inventory: z.string(),
  files: z.number(),
  bytes: z.number(),
  symlinks: z.number(),
  submodules: z.number(),
  /** Named by git but not here to read: deleted, below a link that leaves the repository, or with a name that is not UTF-8. */
  unreadable: z.number(),
})

/** Tracked files, and new ones that no .gitignore names, with their sizes. */
export const files = defineFunction({
  input: Facts.pick({ root: true, out: true }),
  output: Files,
  async run({ root, out }, { signal, log }) {
    const inventory = join(out, 'inventory.jsonl')
    const counts = { files: 0, bytes: 0, symlinks: 0, submodules: 0, unreadable: 0 }
    const isInside = insideCheck(root)

    async function look(path: string, submodule: boolean): Promise<Entry | null> {
      if (submodule) return { path, bytes: 0, kind: 'submodule' }
      const full = join(root, path)
      const found = (await isInside(dirname(full))) ? await lstat(full).catch(() => null) : null
      if (found?.isFile()) return { path, bytes: found.size, kind: 'file' }
      return found?.isSymbolicLink() ? { path, bytes: 0, kind: 'symlink' } : null
    }

    async function* lines() {
      for await (const batch of inBatches(listed({ repo: root, signal }), 128)) {
        // Reports of an earlier run are no part of the repository.
        const own = batch.filter(({ path }) => !join(root, path).startsWith(out + sep))
        for (const entry of await Promise.all(own.map(({ path, submodule }) => look(path, submodule)))) {
          if (entry === null) counts.unreadable++
          else {
            if (entry.kind === 'file') counts.files++
            else if (entry.kind === 'symlink') counts.symlinks++
            else counts.submodules++
            counts.bytes += entry.bytes
            yield `${JSON.stringify(entry)}\n`
          }
        }
      }
    }

    await pipeline(lines(), createWriteStream(inventory), { signal })
    log(`${counts.files} files, ${counts.bytes} bytes`)
    return { inventory, ...counts }
  },
})

async function* listed(options: { repo: string; signal: AbortSignal }) {
  let last = ''
  for await (const record of gitRecords(options, ['ls-files', '-z', '--stage'])) {
    // `<mode> <object> <stage>\t<path>`; a path in conflict comes once for each stage.
    const tab = record.indexOf('\t')
    const path = record.slice(tab + 1)
    if (path !== last) yield { path, submodule: record.startsWith('160000 ') }
    last = path
  }
  for await (const path of gitRecords(options, ['ls-files', '-z', '--others', '--exclude-standard'])) {
    // A repository inside this one that is no submodule is listed as `path/`.
    yield { path: path.replace(/\/$/, ''), submodule: path.endsWith('/') }
  }
}

async function* inBatches<T>(source: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = []
  for await (const item of source) {
    if (batch.push(item) < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

/** A directory of the repository may have become a link to somewhere else; what lies there is not ours to read. */
function insideCheck(root: string): (directory: string) => Promise<boolean> {
  const known = new Map<string, Promise<boolean>>()
  const check = (directory: string) =>
    realpath(directory).then(
      (real) => real === root || real.startsWith(root + sep),
      () => false,
    )
  return (directory) => {
    const answer = known.get(directory) ?? check(directory)
    known.set(directory, answer)
    return answer
  }
}

export async function* readEntries(inventory: string): AsyncGenerator<Entry> {
  for await (const line of createInterface({ input: createReadStream(inventory), crlfDelay: Infinity })) {
    yield Entry.parse(JSON.parse(line))
  }
}

const FromInventory = z.object({ inventory: z.string() })

export const Languages = z.object({
  languages: z.array(z.object({ language: z.string(), files: z.number(), bytes: z.number() })),
})

export const languages = defineFunction({
  input: FromInventory,
  output: Languages,
  async run({ inventory }) {
    const byName = new Map<string, { files: number; bytes: number }>()
    for await (const { path, bytes, kind } of readEntries(inventory)) {
      const language = languageOf(path)
      if (kind !== 'file' || language === null) continue
      const sum = byName.get(language.name) ?? { files: 0, bytes: 0 }
      byName.set(language.name, { files: sum.files + 1, bytes: sum.bytes + bytes })
    }
    const all = [...byName].map(([language, sum]) => ({ language, ...sum }))
    return { languages: all.sort((a, b) => b.bytes - a.bytes).slice(0, 20) }
  },
})

export const Largest = z.object({ largest: z.array(z.object({ path: z.string(), bytes: z.number() })) })

export const largest = defineFunction({
  input: FromInventory.extend({ count: z.int().min(1).max(100).default(12) }),
  output: Largest,
  async run({ inventory, count }) {
    let top: { path: string; bytes: number }[] = []
    for await (const { path, bytes, kind } of readEntries(inventory)) {
      if (kind === 'file') top.push({ path, bytes })
      if (top.length >= 2_000) top = largestOf(top, count)
    }
    return { largest: largestOf(top, count) }
  },
})

const largestOf = <T extends { bytes: number }>(items: T[], count: number): T[] =>
  items.sort((a, b) => b.bytes - a.bytes).slice(0, count)

export const Directories = z.object({
  directories: z.array(z.object({ path: z.string(), files: z.number(), bytes: z.number() })),
  /** Directories that the report leaves out because others have more files. */
  omitted: z.number(),
})

/** Top-level directories with files in them; `.` stands for the files that lie in none. */
export const directories = defineFunction({
  input: FromInventory.extend({ max: z.int().min(1).max(1_000).default(24) }),
  output: Directories,
  async run({ inventory, max }) {
    const byPath = new Map<string, { files: number; bytes: number }>()
    for await (const { path, bytes, kind } of readEntries(inventory)) {
      if (kind !== 'file') continue
      const top = topDirectory(path)
      const sum = byPath.get(top) ?? { files: 0, bytes: 0 }
      byPath.set(top, { files: sum.files + 1, bytes: sum.bytes + bytes })
    }
    const all = [...byPath].map(([path, sum]) => ({ path, ...sum })).sort((a, b) => b.files - a.files)
    return { directories: all.slice(0, max), omitted: Math.max(0, all.length - max) }
  },
})

export const topDirectory = (path: string): string => (path.includes('/') ? path.slice(0, path.indexOf('/')) : '.')

export const Duplicates = z.object({
  groups: z.array(z.object({ sha256: z.string(), bytes: z.number(), copies: z.number(), paths: z.array(z.string()) })),
  /** Bytes that would be saved if each content were kept once; all groups, also those not listed. */
  wastedBytes: z.number(),
  groupCount: z.number(),
})

const STREAM_ABOVE_BYTES = 1024 * 1024

/** Files of equal content. Only sizes that occur twice are read at all. */
export const duplicates = defineFunction({
  input: FromInventory.extend({ root: z.string() }),
  output: Duplicates,
  async run({ root, inventory }, { signal }) {
    const seen = new Set<number>()
    const repeated = new Set<number>()
    for await (const { bytes, kind } of readEntries(inventory)) {
      if (kind === 'file' && bytes > 0) (seen.has(bytes) ? repeated : seen).add(bytes)
    }
    async function* candidates() {
      for await (const entry of readEntries(inventory)) {
        if (entry.kind === 'file' && repeated.has(entry.bytes)) yield entry
      }
    }
    const byHash = new Map<string, { bytes: number; copies: number; paths: string[] }>()
    for await (const batch of inBatches(candidates(), 32)) {
      const hashes = await Promise.all(
        batch.map(({ path, bytes }) => sha256OfFile(join(root, path), { bytes, signal })),
      )
      for (const [index, { path, bytes }] of batch.entries()) {
        const sha256 = hashes[index] ?? ''
        const group = byHash.get(sha256) ?? { bytes, copies: 0, paths: [] }
        group.copies++
        if (group.paths.length < 5) group.paths.push(path)
        byHash.set(sha256, group)
      }
    }
    const groups = [...byHash].filter(([, { copies }]) => copies > 1).map(([sha256, group]) => ({ sha256, ...group }))
    const wasted = (group: { bytes: number; copies: number }) => group.bytes * (group.copies - 1)
    return {
      groups: groups.sort((a, b) => wasted(b) - wasted(a)).slice(0, 12),
      wastedBytes: groups.reduce((sum, group) => sum + wasted(group), 0),
      groupCount: groups.length,
    }
  },
})

async function sha256OfFile(path: string, file: { bytes: number; signal: AbortSignal }): Promise<string> {
  // A stream costs more than it saves for the many small files.
  if (file.bytes <= STREAM_ABOVE_BYTES) return hash('sha256', await readFile(path, { signal: file.signal }))
  const stream = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 256 * 1024 }), stream, { signal: file.signal })
  return stream.digest('hex')
}
