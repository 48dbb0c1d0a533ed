import { join, sep } from 'node:path'
import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { git, GitError, gitRecords } from './git.ts'
import { Facts } from './inventory.ts'

/** What the history tells: which files change most, who knows the code, and how old its promises are. */

const CHURN_COMMITS = 300
const AUTHOR_COMMITS = 10_000

const OfHead = Facts.pick({ root: true, head: true })

export const Churn = z.object({
  /** Commits looked at, newest first, merges left out. */
  commits: z.number(),
  added: z.number(),
  removed: z.number(),
  files: z.array(z.object({ path: z.string(), commits: z.number(), added: z.number(), removed: z.number() })),
})

export const churn = defineFunction({
  input: OfHead.extend({ commits: z.int().min(1).max(5_000).default(CHURN_COMMITS) }),
  output: Churn,
  async run({ root, head, commits }, { signal }) {
    const total = { commits: 0, added: 0, removed: 0 }
    if (head === null) return { ...total, files: [] }
    const byPath = new Map<string, { commits: number; added: number; removed: number }>()
    const args = [
      'log',
      '-z',
      '--numstat',
      '--no-renames',
      '--no-merges',
      '--no-ext-diff',
      '--no-textconv',
      '--no-show-signature',
    ]
    for await (const record of gitRecords({ repo: root, signal }, [
      ...args,
      `--max-count=${commits}`,
      '--format=%x01',
      head,
    ])) {
      // A commit begins with the mark of the format; each of its files is `<added>\t<removed>\t<path>`, dashes when binary.
      if (record.startsWith('\u0001')) total.commits++
      const [, added, removed, path] = /^\n?(\d+|-)\t(\d+|-)\t([^]+)$/.exec(record) ?? []
      if (added === undefined || removed === undefined || path === undefined) continue
      const sum = byPath.get(path) ?? { commits: 0, added: 0, removed: 0 }
      for (const count of [sum, total]) {
        count.added += Number(added) || 0
        count.removed += Number(removed) || 0
      }
      sum.commits++
      byPath.set(path, sum)
    }
    const files = [...byPath].map(([path, sum]) => ({ path, ...sum }))
    files.sort((a, b) => b.commits - a.commits || b.added + b.removed - a.added - a.removed)
    return { ...total, files: files.slice(0, 15) }
  },
})

export const Authors = z.object({
  commits: z.number(),
  authorCount: z.number(),
  /** The fewest people who together wrote at least half of the commits; 0 without commits. */
  busFactor: z.number(),
  authors: z.array(z.object({ name: z.string(), commits: z.number(), lastAt: z.string() })),
})

/** Names are joined by the repository's .mailmap. */
export const authors = defineFunction({
  input: OfHead.extend({ commits: z.int().min(1).max(100_000).default(AUTHOR_COMMITS) }),
  output: Authors,
  async run({ root, head, commits }, { signal }) {
    const byName = new Map<string, { commits: number; lastAt: string }>()
    let seen = 0
    if (head !== null) {
      const args = [
        'log',
        '-z',
        '--no-merges',
        '--no-show-signature',
        `--max-count=${commits}`,
        '--format=%cs%x09%aN',
        head,
      ]
      for await (const record of gitRecords({ repo: root, signal }, args)) {
        const [lastAt = '', name = ''] = record.split('\t', 2)
        const sum = byName.get(name) ?? { commits: 0, lastAt }
        byName.set(name, { commits: sum.commits + 1, lastAt: sum.lastAt > lastAt ? sum.lastAt : lastAt })
        seen++
      }
    }
    const all = [...byName].map(([name, sum]) => ({ name, ...sum })).sort((a, b) => b.commits - a.commits)
    return {
      commits: seen,
      authorCount: all.length,
      busFactor: busFactorOf(all.map((author) => author.commits)),
      authors: all.slice(0, 12),
    }
  },
})

/** Takes commit counts with the largest first. */
export function busFactorOf(commits: number[]): number {
  const half = commits.reduce((sum, n) => sum + n, 0) / 2
  let covered = 0
  let people = 0
  while (covered < half) covered += commits[people++] ?? half
  return people
}

const MARKS = ['TODO', 'FIXME', 'HACK'] as const
const BLAMED_FILES = 12
const BLAMED_LINES = 25

export const Todos = z.object({
  total: z.number(),
  fileCount: z.number(),
  byMark: z.record(z.enum(MARKS), z.number()),
  files: z.array(
    z.object({
      path: z.string(),
      count: z.number(),
      /** Days from the oldest mark to HEAD; null when the file is new, or beyond the files that are looked at. */
      oldestDays: z.number().nullable(),
    }),
  ),
})

export const todos = defineFunction({
  input: Facts.pick({ root: true, out: true, head: true, asOf: true }),
  output: Todos,
  async run({ root, out, head, asOf }, { signal }) {
    const byMark = { TODO: 0, FIXME: 0, HACK: 0 }
    const byPath = new Map<string, { count: number; lines: number[] }>()
    for await (const { path, line, mark } of findMarks({ repo: root, signal })) {
      if (join(root, path).startsWith(out + sep)) continue
      byMark[mark]++
      const sum = byPath.get(path) ?? { count: 0, lines: [] }
      sum.count++
      if (sum.lines.length < BLAMED_LINES && sum.lines.at(-1) !== line) sum.lines.push(line)
      byPath.set(path, sum)
    }
    const most = [...byPath].map(([path, sum]) => ({ path, ...sum })).sort((a, b) => b.count - a.count)
    const files = most.slice(0, BLAMED_FILES).map(async ({ path, count, lines }) => {
      const oldest = head === null || asOf === null ? null : await oldestLine({ repo: root, signal }, path, lines)
      const days = oldest === null ? null : Math.max(0, Math.floor((Date.parse(asOf ?? '') - oldest) / 86_400_000))
      return { path, count, oldestDays: days }
    })
    const total = byMark.TODO + byMark.FIXME + byMark.HACK
    return { total, fileCount: byPath.size, byMark, files: await Promise.all(files) }
  },
})

async function* findMarks(options: { repo: string; signal: AbortSignal }) {
  const args = ['grep', '-z', '-I', '-n', '-o', '-w', '-E', '--untracked', MARKS.join('|')]
  // `<path>\0<line>\0<match>\n<path>\0…`: the match never holds a line break, the path may.
  let path = ''
  let line: number | null = null
  try {
    for await (const record of gitRecords(options, args)) {
      if (path === '') path = record
      else if (line === null) line = Number(record)
      else {
        const end = record.indexOf('\n')
        const mark = MARKS.find((known) => known === record.slice(0, end))
        if (mark) yield { path, line, mark }
        path = record.slice(end + 1)
        line = null
      }
    }
  } catch (error) {
    // 1 is how grep says that it found nothing.
    if (!(error instanceof GitError && error.exitCode === 1)) throw error
  }
}

/** When the oldest of these lines was written, in ms since the epoch; null when no commit has them. */
async function oldestLine(
  options: { repo: string; signal: AbortSignal },
  path: string,
  lines: number[],
): Promise<number | null> {
  const ranges = lines.flatMap((line) => ['-L', `${line},${line}`])
  try {
    const blame = await git({ ...options, timeoutMs: 5_000 }, 'blame', '--line-porcelain', ...ranges, '--', path)
    // Lines that are not committed yet belong to a commit of zeros and the present time.
    const committed = blame.split(/^(?=[0-9a-f]{40,64} \d+ \d+)/m).filter((part) => !/^0+ /.test(part))
    const times = committed.flatMap((part) => /^committer-time (\d+)$/m.exec(part)?.[1] ?? [])
    return times.length === 0 ? null : Math.min(...times.map(Number)) * 1_000
  } catch (error) {
    if (error instanceof GitError) return null
    throw error
  }
}
