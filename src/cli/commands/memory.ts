import path from 'node:path'
import { formatDuration, type JsonObject } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { MemoryEntryDetail, MemoryEntryView } from '../../contract/memory-types.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import { MEMORY_SEARCHES, type MemorySearch } from '../../domain/kinds/memory.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CliDeps } from '../deps.ts'
import { readGivenText } from '../inputs.ts'
import type { Output } from '../output.ts'
import { printable, printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface MemoryFlags extends ServerFlags {
  namespace?: string
  run?: string
  agent?: string
}

export interface ListEntriesFlags extends MemoryFlags {
  limit?: string
}

export interface PutEntryFlags extends MemoryFlags {
  meta?: string[]
}

export interface SearchFlags extends MemoryFlags {
  limit?: string
  by?: string
  minScore?: string
}

export interface IngestFlags extends PutEntryFlags {
  as?: string
}

export interface DeleteEntriesFlags extends MemoryFlags {
  prefix?: string
  all?: boolean
}

const namespaceOf = ({ namespace = DEFAULT_NAMESPACE }: MemoryFlags): string => namespace

/** Whose entries: of a run, of an agent, or as the memory has it. */
function scopeOf({ run, agent }: MemoryFlags): { scope?: string } {
  if (run !== undefined && agent !== undefined)
    throw usageFailure('--run and --agent cannot be used together', 'The entries of a memory are of runs or of agents.')
  return run !== undefined ? { scope: `run/${run}` } : agent !== undefined ? { scope: `agent/${agent}` } : {}
}

/** `orrery memory list NAME [PREFIX]`. */
export async function listEntries(
  deps: CliDeps,
  output: Output,
  of: { name: string; prefix: string | undefined },
  flags: ListEntriesFlags,
): Promise<number> {
  const max = wholeOf('--limit', flags.limit)
  const client = await connect(deps, flags)
  const entries = await gather(client, of, flags, max ?? Infinity)
  if (output.isData) {
    output.printData({ entries })
    return 0
  }
  if (entries.length === 0) {
    if (output.format !== 'name')
      output.remark(`There is nothing in memory ${of.name}${of.prefix === undefined ? '' : ` that begins so`}.`)
    return 0
  }
  const columns = [
    { title: 'SCOPE' },
    { title: 'KEY', isName: true },
    { title: 'BYTES', align: 'right' as const },
    { title: 'WRITTEN', align: 'right' as const },
    { title: 'BY' },
    { title: 'TEXT' },
    { title: 'EXPIRES IN', align: 'right' as const, wide: true },
  ]
  const now = deps.clock.now()
  const rows = entries.map((entry) => [
    { text: entry.scope },
    { text: printableLine(entry.key) },
    { text: String(entry.bytes) },
    { text: `${formatDuration(Math.max(0, now - Date.parse(entry.updatedAt)))} ago` },
    { text: entry.writtenBy ?? '-' },
    { text: beginOf(entry.excerpt) },
    { text: entry.expiresAt === null ? '-' : formatDuration(Math.max(0, Date.parse(entry.expiresAt) - now)) },
  ])
  output.printTable(columns, rows)
  return 0
}

const BEGIN_CHARS = 60

function beginOf(text: string): string {
  const line = printableLine(text.replaceAll(/\s+/g, ' ').trim())
  return line.length > BEGIN_CHARS ? `${line.slice(0, BEGIN_CHARS - 1)}…` : line
}

async function gather(
  client: Client,
  { name, prefix }: { name: string; prefix: string | undefined },
  flags: MemoryFlags,
  max: number,
): Promise<MemoryEntryView[]> {
  const entries: MemoryEntryView[] = []
  const query = { ...scopeOf(flags), ...(prefix === undefined ? {} : { prefix }) }
  for (let cursor: string | undefined; ;) {
    const page = await client.listMemoryEntries(namespaceOf(flags), name, {
      ...query,
      limit: Math.min(LIMITS.pageMax, max - entries.length),
      ...(cursor === undefined ? {} : { cursor }),
    })
    entries.push(...page.items)
    if (page.next === null || entries.length >= max) return entries
    cursor = page.next
  }
}

/** `orrery memory get NAME KEY`: the text as it is, for whatever reads it. */
export async function getEntry(
  deps: CliDeps,
  output: Output,
  of: { name: string; key: string },
  flags: MemoryFlags,
): Promise<number> {
  const client = await connect(deps, flags)
  const entry = await client.getMemoryEntry(namespaceOf(flags), of.name, { key: of.key, ...scopeOf(flags) })
  if (output.isData) {
    output.printData(entry)
    return 0
  }
  deps.stdout.write(printable(entry.text.endsWith('\n') ? entry.text : `${entry.text}\n`))
  output.remark([span(`  ${aboutOf(entry, deps.clock.now())}`, 'dim')])
  return 0
}

function aboutOf({ scope, writtenBy, updatedAt, metadata }: MemoryEntryDetail, now: number): string {
  const facts = Object.keys(metadata).length === 0 ? '' : `, ${printableLine(JSON.stringify(metadata))}`
  const by = writtenBy === null ? '' : ` by ${printableLine(writtenBy)}`
  return `${scope}, written ${formatDuration(Math.max(0, now - Date.parse(updatedAt)))} ago${by}${facts}`
}

/** `orrery memory put NAME KEY TEXT`. */
export async function putEntry(
  deps: CliDeps,
  output: Output,
  of: { name: string; key: string; text: string },
  flags: PutEntryFlags,
): Promise<number> {
  const text = await readGivenText(deps, of.text, 'the text')
  const request = { text, metadata: metadataOf(flags.meta) }
  const client = await connect(deps, flags)
  const done = await client.putMemoryEntry(namespaceOf(flags), of.name, { key: of.key, ...scopeOf(flags) }, request)
  if (output.isData) output.printData(done)
  else output.print(`${printableLine(done.key)} is ${done.replaced ? 'replaced' : 'written'}`)
  return 0
}

/** `orrery memory search NAME QUERY`. */
export async function searchEntries(
  deps: CliDeps,
  output: Output,
  of: { name: string; query: string },
  flags: SearchFlags,
): Promise<number> {
  const limit = wholeOf('--limit', flags.limit)
  const minScore = flags.minScore === undefined ? undefined : Number(flags.minScore)
  if (minScore !== undefined && !(minScore >= 0 && minScore <= 1))
    throw usageFailure(`--min-score ${flags.minScore ?? ''} is no number from 0 to 1`)
  const by = searchBy(flags.by)
  const request = {
    query: await readGivenText(deps, of.query, 'what is looked for'),
    ...(limit === undefined ? {} : { limit }),
    ...(by === undefined ? {} : { by }),
    ...(minScore === undefined ? {} : { minScore }),
  }
  const client = await connect(deps, flags)
  const found = await client.searchMemory(namespaceOf(flags), of.name, request, scopeOf(flags))
  if (output.isData) {
    output.printData(found)
    return 0
  }
  if (found.items.length === 0) output.remark(`Nothing in memory ${of.name} fits.`)
  for (const { key, score, text } of found.items)
    output.print([span(score.toFixed(2), 'dim'), span(`  ${printableLine(key)}`, 'bold')], `      ${beginOf(text)}`)
  output.remark(...found.warnings.map((warning) => printableLine(`  ${warning}`)))
  return 0
}

const searchBy = (text: string | undefined): MemorySearch | undefined => {
  if (text === undefined) return undefined
  const by = MEMORY_SEARCHES.find((known) => known === text)
  if (by) return by
  throw usageFailure(`--by ${text} is none of ${MEMORY_SEARCHES.join(', ')}`)
}

/** `orrery memory ingest NAME FILE…`: one file after another, each under its path. */
export async function ingestFiles(
  deps: CliDeps,
  output: Output,
  of: { name: string; files: string[] },
  flags: IngestFlags,
): Promise<number> {
  if (flags.as !== undefined && of.files.length > 1) throw usageFailure('--as names one file, and several are given')
  if (of.files.includes('-') && flags.as === undefined)
    throw usageFailure('standard input has no name', 'Give it one with --as SOURCE.')
  const texts: { source: string; text: string }[] = []
  for (const file of of.files)
    texts.push({
      source: flags.as ?? file.split(path.sep).join('/').replace(/^\.\//, ''),
      text: await readGivenText(deps, file === '-' ? file : `@${file}`, 'the text'),
    })
  const client = await connect(deps, flags)
  const taken = []
  for (const one of texts) {
    const request = { ...one, metadata: metadataOf(flags.meta) }
    const done = await client.ingestMemory(namespaceOf(flags), of.name, request, scopeOf(flags))
    taken.push(done)
    if (output.isData) continue
    const gone = done.removed > 0 ? `, ${done.removed} of before are gone` : ''
    output.print(`${printableLine(done.source)}: ${done.chunks} ${done.chunks === 1 ? 'entry' : 'entries'}${gone}`)
  }
  if (output.isData) output.printData({ ingested: taken })
  return 0
}

/** `orrery memory delete NAME [KEY…]`. */
export async function deleteEntries(
  deps: CliDeps,
  output: Output,
  of: { name: string; keys: string[] },
  flags: DeleteEntriesFlags,
): Promise<number> {
  const { prefix, all = false } = flags
  const ways = [of.keys.length > 0, prefix !== undefined, all].filter(Boolean).length
  if (ways !== 1) throw usageFailure('give the keys, --prefix or --all', 'orrery memory list NAME shows what there is.')
  const which = all ? { all } : prefix === undefined ? { keys: of.keys } : { prefix }
  const client = await connect(deps, flags)
  const { deleted } = await client.deleteMemoryEntries(namespaceOf(flags), of.name, { ...which, ...scopeOf(flags) })
  if (output.isData) output.printData({ deleted })
  else output.print(`${deleted} ${deleted === 1 ? 'entry is' : 'entries are'} deleted`)
  return 0
}

/** `orrery memory check NAME`. */
export async function checkMemory(deps: CliDeps, output: Output, name: string, flags: MemoryFlags): Promise<number> {
  const client = await connect(deps, flags)
  const found = await client.checkMemory(namespaceOf(flags), name)
  if (output.isData) output.printData(found)
  else {
    const where = found.provider === 'store' ? 'in the store' : 'at its service'
    const how = found.numbers === null ? '' : `; its model makes vectors of ${found.numbers} numbers`
    output.print([span('✓ ', 'good'), span(`${name} can be used, ${where}${how}`)])
  }
  return 0
}

function metadataOf(pairs: string[] = []): JsonObject {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw usageFailure(`--meta ${pair} has not the form NAME=VALUE`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

function wholeOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw usageFailure(`${flag} ${text} is no whole number from 1`)
  return number
}
