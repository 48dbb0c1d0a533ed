import { createReadStream } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { readEntries } from './inventory.ts'
import { lockFormatOf } from './lockfiles.ts'

const LOCK_BYTES = 16 * 1024 * 1024
const LOCK_FILES = 100

const Dependency = z.object({
  ecosystem: z.string(),
  name: z.string(),
  version: z.string().nullable(),
  license: z.string().nullable(),
  /** Where the package is installed, absolute; null when the lock file does not tell. */
  installedAt: z.string().nullable(),
})
type Dependency = z.infer<typeof Dependency>

export const Dependencies = z.object({
  /** One dependency a line; a package in one version is listed once. */
  list: z.string(),
  total: z.number(),
  lockFiles: z.array(
    z.object({ path: z.string(), ecosystem: z.string(), packages: z.number(), problem: z.string().nullable() }),
  ),
  /** Packages that are locked in more than one version. */
  repeated: z.array(z.object({ ecosystem: z.string(), name: z.string(), versions: z.array(z.string()) })),
  repeatedCount: z.number(),
})

export const dependencies = defineFunction({
  input: z.object({ root: z.string(), out: z.string(), inventory: z.string() }),
  output: Dependencies,
  async run({ root, out, inventory }, { log }) {
    const lockFiles: z.infer<typeof Dependencies>['lockFiles'] = []
    const found = new Map<string, Dependency>()
    for await (const { path, bytes, kind } of readEntries(inventory)) {
      const format = kind === 'file' && lockFiles.length < LOCK_FILES ? lockFormatOf(path) : null
      if (format === null) continue
      const file = { path, ecosystem: format.ecosystem, packages: 0, problem: null as string | null }
      lockFiles.push(file)
      if (bytes > LOCK_BYTES) {
        file.problem = `not read: larger than ${LOCK_BYTES} bytes`
        continue
      }
      try {
        for (const { installedAt, ...pinned } of format.parse(await readFile(join(root, path), 'utf8'))) {
          file.packages++
          const dependency = {
            ecosystem: format.ecosystem,
            ...pinned,
            installedAt: installedAt === null ? null : join(root, dirname(path), installedAt),
          }
          found.set(JSON.stringify([dependency.ecosystem, dependency.name, dependency.version]), dependency)
        }
      } catch (error) {
        // One broken lock file is a line of the report, not the end of it.
        file.problem = `not read: ${error instanceof Error ? error.message : String(error)}`.slice(0, 300)
        log(`${path}: ${file.problem}`)
      }
    }
    const all = [...found.values()].sort((a, b) => compare(a.name, b.name))
    const list = join(out, 'dependencies.jsonl')
    await writeFile(list, all.map((dependency) => `${JSON.stringify(dependency)}\n`).join(''))
    const repeated = repeatedIn(all)
    return { list, total: all.length, lockFiles, repeated: repeated.slice(0, 12), repeatedCount: repeated.length }
  },
})

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

function repeatedIn(all: Dependency[]): { ecosystem: string; name: string; versions: string[] }[] {
  const groups = Map.groupBy(all, ({ ecosystem, name }) => JSON.stringify([ecosystem, name]))
  return [...groups.values()]
    .flatMap((group) => {
      const versions = group.flatMap(({ version }) => version ?? []).sort(compare)
      const [first] = group
      return first && versions.length > 1 ? [{ ecosystem: first.ecosystem, name: first.name, versions }] : []
    })
    .sort((a, b) => b.versions.length - a.versions.length)
}

const KINDS = ['permissive', 'weak copyleft', 'strong copyleft', 'other', 'unknown'] as const

export const Licences = z.object({
  /** Of the project itself; null when it declares none. */
  project: z.string().nullable(),
  known: z.number(),
  unknown: z.number(),
  licences: z.array(
    z.object({ licence: z.string(), kind: z.enum(KINDS), packages: z.number(), examples: z.array(z.string()) }),
  ),
})

/** Licences from the lock file, else from the installed package. What neither tells is counted as unknown, never guessed. */
export const licences = defineFunction({
  input: z.object({ root: z.string(), list: z.string() }),
  output: Licences,
  async run({ root, list }, { signal }) {
    const byName = new Map<string, { packages: number; examples: string[] }>()
    for await (const line of createInterface({ input: createReadStream(list), crlfDelay: Infinity })) {
      signal.throwIfAborted()
      const dependency = Dependency.parse(JSON.parse(line))
      const { license, installedAt, name } = dependency
      const licence = license ?? (installedAt === null ? null : await licenceInManifest(installedAt)) ?? 'unknown'
      const sum = byName.get(licence) ?? { packages: 0, examples: [] }
      sum.packages++
      if (sum.examples.length < 4 && !sum.examples.includes(name)) sum.examples.push(name)
      byName.set(licence, sum)
    }
    const all = [...byName].map(([licence, sum]) => ({ licence, kind: kindOf(licence), ...sum }))
    const unknown = byName.get('unknown')?.packages ?? 0
    return {
      project: (await licenceInManifest(root)) ?? (await licenceInFile(root)),
      known: all.reduce((sum, { packages }) => sum + packages, 0) - unknown,
      unknown,
      licences: all.sort((a, b) => b.packages - a.packages).slice(0, 20),
    }
  },
})

const Manifest = z.object({ license: z.union([z.string(), z.object({ type: z.string() })]) })

async function licenceInManifest(directory: string): Promise<string | null> {
  try {
    const { license } = Manifest.parse(JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')))
    return typeof license === 'string' ? license : license.type
  } catch {
    // Not installed, or without a usable licence field: both mean that we do not know.
    return null
  }
}

const TITLES: [RegExp, string][] = [
  [/apache license\s+version 2\.0/i, 'Apache-2.0'],
  [/gnu affero general public license\s+version 3/i, 'AGPL-3.0'],
  [/gnu lesser general public license\s+version 3/i, 'LGPL-3.0'],
  [/gnu general public license\s+version 3/i, 'GPL-3.0'],
  [/gnu general public license\s+version 2/i, 'GPL-2.0'],
  [/mozilla public license,? version 2\.0/i, 'MPL-2.0'],
  [/permission is hereby granted, free of charge/i, 'MIT'],
  [/permission to use, copy, modify, and\/or distribute/i, 'ISC'],
  [/redistribution and use in source and binary forms/i, 'BSD'],
]

async function licenceInFile(root: string): Promise<string | null> {
  for (const name of ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'COPYING']) {
    const text = await readFile(join(root, name), 'utf8').catch(() => null)
    const title = text === null ? null : TITLES.find(([pattern]) => pattern.test(text.slice(0, 4_000)))
    if (title) return title[1]
  }
  return null
}

/** Of `A OR B` the freer one counts. */
function kindOf(licence: string): (typeof KINDS)[number] {
  const kinds = licence.split(/\s+OR\s+/i).map((one): (typeof KINDS)[number] => {
    if (licence === 'unknown') return 'unknown'
    if (/\b(LGPL|MPL|EPL|CDDL)/i.test(one)) return 'weak copyleft'
    if (/GPL/i.test(one)) return 'strong copyleft'
    if (/\b(MIT|ISC|Apache|BSD|0BSD|Unlicense|CC0|CC-BY|Zlib|Python|BlueOak|PostgreSQL)/i.test(one)) return 'permissive'
    return 'other'
  })
  return KINDS.find((kind) => kinds.includes(kind)) ?? 'other'
}
