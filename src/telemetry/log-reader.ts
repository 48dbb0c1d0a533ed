import { readdirSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { runIdOfTrace } from '../base/trace.ts'

/** A line of a log file, as it was written. */
export interface LogRecord {
  fields: Record<string, unknown>
  line: string
}

export interface LogFilter {
  /** Null: of all components. */
  component: string | null
  run: string | null
  trace: string | null
  request: string | null
  /** Least level; null: all. */
  level: 'debug' | 'info' | 'warn' | 'error' | null
  /** Ms since the epoch; null: from the beginning. */
  since: number | null
}

const LEVELS = ['debug', 'info', 'warn', 'error']
const CHUNK_BYTES = 256 * 1024
/** A line longer than this is no line of a log. */
const LINE_CHARS_MAX = 4 * 1024 * 1024
const FOLLOW_MS = 250

/** Components whose files lie in a directory. */
export function componentsIn(dir: string): string[] {
  const names = readdirSync(dir).flatMap((name) => /^([a-z][a-z-]*)\.log(?:\.\d+)?$/.exec(name)?.[1] ?? [])
  return [...new Set(names)].sort()
}

/** The files of a component, those that were put aside first, the oldest of them at the head. */
function filesOf(dir: string, component: string): string[] {
  const numbers = readdirSync(dir).flatMap((name) => {
    const [, of, n] = /^([a-z][a-z-]*)\.log(?:\.(\d+))?$/.exec(name) ?? []
    return of === component ? [n === undefined ? 0 : Number(n)] : []
  })
  return numbers.sort((a, b) => b - a).map((n) => join(dir, n === 0 ? `${component}.log` : `${component}.log.${n}`))
}

/**
 * Lines of the log files in a directory that fit, by time. With `follow` it goes on with what is written from then on, until the
 * signal aborts.
 */
export async function* readLogs(
  dir: string,
  filter: LogFilter,
  options: { clock: Clock; follow: boolean; signal: AbortSignal },
): AsyncIterable<LogRecord> {
  const components = componentsIn(dir).filter((name) => filter.component === null || name === filter.component)
  const fits = await makeFilter(dir, components, filter)
  const tails = components.map((component) => new Tail(dir, component))
  for await (const record of merged(tails.map((tail) => tail.read()))) if (fits(record)) yield record
  while (options.follow && !options.signal.aborted) {
    await options.clock.sleep(FOLLOW_MS, options.signal).catch(() => {})
    // A component that began to write only now is followed too.
    for (const component of componentsIn(dir))
      if (filter.component === null || filter.component === component)
        if (!tails.some((tail) => tail.component === component)) tails.push(new Tail(dir, component))
    for await (const record of merged(tails.map((tail) => tail.read()))) if (fits(record)) yield record
  }
}

async function makeFilter(
  dir: string,
  components: readonly string[],
  filter: LogFilter,
): Promise<(record: LogRecord) => boolean> {
  // A trace is that of a run, or of requests that made some: what was said of those runs elsewhere belongs to it as well.
  const runs = new Set<string>()
  const traceRuns = new Set<string>()
  const { trace } = filter
  if (trace !== null) {
    const own = runIdOfTrace(trace)
    if (own !== null) traceRuns.add(own)
    for (const component of components)
      for await (const { fields } of new Tail(dir, component).read())
        if (fields['trace_id'] === trace && typeof fields['run_id'] === 'string') traceRuns.add(fields['run_id'])
  }
  if (filter.run !== null) runs.add(filter.run)
  const least = filter.level === null ? 0 : LEVELS.indexOf(filter.level)
  return ({ fields }) => {
    const runId = typeof fields['run_id'] === 'string' ? fields['run_id'] : ''
    if (trace !== null && fields['trace_id'] !== trace && !traceRuns.has(runId)) return false
    if (filter.run !== null && !namesRun(fields, runId, filter.run)) return false
    if (filter.request !== null && fields['request_id'] !== filter.request) return false
    if (LEVELS.indexOf(String(fields['level'])) < least) return false
    return filter.since === null || timeOf(fields) >= filter.since
  }
}

/** By the whole id or the end of it, as elsewhere; lines about several runs list them. */
function namesRun(fields: Record<string, unknown>, runId: string, wanted: string): boolean {
  const all = Array.isArray(fields['runs']) ? [runId, ...fields['runs'].map(String)] : [runId]
  return all.some((id) => id !== '' && id.endsWith(wanted))
}

const timeOf = (fields: Record<string, unknown>): number => Date.parse(String(fields['time'])) || 0

/** By time; each source is in order itself. */
async function* merged(sources: AsyncIterable<LogRecord>[]): AsyncIterable<LogRecord> {
  const heads = await Promise.all(
    sources.map(async (source) => {
      const lines = source[Symbol.asyncIterator]()
      return { lines, head: await lines.next() }
    }),
  )
  for (;;) {
    const [first] = heads
      .filter(({ head }) => !head.done)
      .sort((a, b) => timeOf((a.head.value as LogRecord).fields) - timeOf((b.head.value as LogRecord).fields)) // not done
    if (!first) return
    yield first.head.value as LogRecord // likewise
    first.head = await first.lines.next()
  }
}

/** Reads a component's files from where the last reading ended, also when they were put aside in between. */
class Tail {
  readonly component: string
  readonly #dir: string
  /** Bytes read of each file, by its inode: a file keeps it when it is put aside. */
  readonly #read = new Map<number, number>()

  constructor(dir: string, component: string) {
    this.#dir = dir
    this.component = component
  }

  async *read(): AsyncIterable<LogRecord> {
    for (const path of filesOf(this.#dir, this.component)) {
      const stat = statSync(path, { throwIfNoEntry: false })
      if (!stat) continue // it was put aside this very moment
      const from = this.#read.get(stat.ino) ?? 0
      // A shorter file was emptied in place.
      if (stat.size !== from) yield* this.#lines(path, stat.size < from ? 0 : from, stat.ino)
    }
  }

  async *#lines(path: string, from: number, inode: number): AsyncIterable<LogRecord> {
    const file = await open(path, 'r')
    let at = from
    let rest = Buffer.alloc(0)
    try {
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, at + rest.length)
        if (bytesRead === 0) break
        const text = Buffer.concat([rest, buffer.subarray(0, bytesRead)])
        const end = text.lastIndexOf(10) + 1
        rest = Buffer.from(text.subarray(end))
        at += end
        this.#read.set(inode, at)
        for (const line of text.subarray(0, end).toString('utf8').split('\n')) {
          const fields = parseLine(line)
          if (fields) yield { fields, line }
        }
        if (rest.length > LINE_CHARS_MAX) {
          at += rest.length
          rest = Buffer.alloc(0)
        }
      }
    } finally {
      await file.close()
    }
  }
}

/** Null for what is no line of ours: the end of one that was cut off by a full disk. */
function parseLine(line: string): Record<string, unknown> | null {
  if (!line.startsWith('{')) return null
  try {
    return JSON.parse(line) as Record<string, unknown> // it begins with a brace
  } catch {
    return null
  }
}
