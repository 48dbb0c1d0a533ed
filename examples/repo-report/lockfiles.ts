import { basename } from 'node:path'

/** One package that a lock file pins. */
export interface LockedPackage {
  name: string
  /** Null where the file does not say, as requirements.txt may. */
  version: string | null
  /** SPDX expression where the lock file tells. */
  license: string | null
  /** Directory of the installed package, relative to the lock file, where the lock file tells. */
  installedAt: string | null
}

export interface LockFormat {
  ecosystem: string
  parse(text: string): LockedPackage[]
}

const locked = (name: string, version: string | null, rest: Partial<LockedPackage> = {}): LockedPackage => ({
  name,
  version,
  license: null,
  installedAt: null,
  ...rest,
})

type Fields = Record<string, unknown>
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : {})
const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)

function parseNpm(text: string): LockedPackage[] {
  const lock = fieldsOf(JSON.parse(text))
  if (!isFields(lock['packages'])) return parseNpm1(lock['dependencies'], 'node_modules/')
  return Object.entries(lock['packages']).flatMap(([place, value]) => {
    const at = place.lastIndexOf('node_modules/')
    const entry = fieldsOf(value)
    // The project itself, workspaces and links to them are no dependencies.
    if (at === -1 || entry['link'] === true) return []
    const name = textOf(entry['name']) ?? place.slice(at + 'node_modules/'.length)
    return [locked(name, textOf(entry['version']), { license: textOf(entry['license']), installedAt: place })]
  })
}

function parseNpm1(dependencies: unknown, prefix: string): LockedPackage[] {
  return Object.entries(fieldsOf(dependencies)).flatMap(([name, value]) => {
    const entry = fieldsOf(value)
    const installedAt = `${prefix}${name}`
    return [
      locked(name, textOf(entry['version']), { installedAt }),
      ...parseNpm1(entry['dependencies'], `${installedAt}/node_modules/`),
    ]
  })
}

/** `@scope/name@npm:^1.0.0` and the like: the name ends at the last `@` that is not its first character. */
const beforeVersion = (descriptor: string): string => {
  const at = descriptor.indexOf('@', 1)
  return at === -1 ? descriptor : descriptor.slice(0, at)
}

function parseYarn(text: string): LockedPackage[] {
  return blocksOf(text, /^(?=\S)/m).flatMap((block) => {
    const head = /^"?([^\s#"][^"\n]*?)"?(?:, .*)?:$/m.exec(block.split('\n', 1)[0] ?? '')?.[1]
    const version = /^ {2}version:? "?([^"\n]+)"?$/m.exec(block)?.[1]
    if (head === undefined || version === undefined || head === '__metadata' || head.includes('@workspace:')) return []
    return [
      locked(beforeVersion(head.split(', ', 1)[0] ?? head), version, {
        installedAt: `node_modules/${beforeVersion(head)}`,
      }),
    ]
  })
}

function parsePnpm(text: string): LockedPackage[] {
  const packages = /^packages:\n([^]*?)(?=^\S|$(?![^]))/m.exec(text)?.[1] ?? ''
  return [...packages.matchAll(/^ {2}['"]?\/?((?:@[^/\s]+\/)?[^@/\s'"]+)[@/]([^\s('":_]+)[^\n]*:/gm)].map(
    ([, name = '', version]) => locked(name, version ?? null, { installedAt: `node_modules/${name}` }),
  )
}

/** bun.lock is JSON with trailing commas, one package a line: `"a": ["a@1.0.0", …`. */
function parseBun(text: string): LockedPackage[] {
  return [...text.matchAll(/^ {4}"[^"]+": \["((?:@[^/"]+\/)?[^@"]+)@([^":]+)"/gm)].map(([, name = '', version]) =>
    locked(name, version ?? null, { installedAt: `node_modules/${name}` }),
  )
}

/** Cargo.lock, poetry.lock and uv.lock are lists of `[[package]]` tables. */
const parsePackageTables =
  (isOwn: (table: string) => boolean) =>
  (text: string): LockedPackage[] =>
    blocksOf(text, /^\[\[package\]\]$/m)
      .slice(1)
      .flatMap((table) => {
        const name = /^name = "([^"]+)"$/m.exec(table)?.[1]
        const version = /^version = "([^"]+)"$/m.exec(table)?.[1]
        return name === undefined || isOwn(table) ? [] : [locked(name, version ?? null)]
      })

function parseGoMod(text: string): LockedPackage[] {
  const blocks = [...text.matchAll(/^require\s*\(([^)]*)\)/gm)].flatMap(([, body = '']) => body.split('\n'))
  const single = [...text.matchAll(/^require\s+([^(\s].*)$/gm)].map(([, line = '']) => line)
  return [...blocks, ...single].flatMap((line) => {
    const [, name, version] = /^\s*([^\s/"][^\s"]*)\s+(v\S+)/.exec(line) ?? []
    return name === undefined || version === undefined ? [] : [locked(name, version)]
  })
}

function parseRequirements(text: string): LockedPackage[] {
  return text.split('\n').flatMap((line) => {
    const [, name, version] = /^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:==\s*([^\s;,\\]+))?/.exec(line.trim()) ?? []
    return name === undefined ? [] : [locked(name, version ?? null)]
  })
}

function parsePipfile(text: string): LockedPackage[] {
  const lock = fieldsOf(JSON.parse(text))
  return [lock['default'], lock['develop']].flatMap((group) =>
    Object.entries(fieldsOf(group)).map(([name, entry]) =>
      locked(name, textOf(fieldsOf(entry)['version'])?.replace(/^==/, '') ?? null),
    ),
  )
}

function parseComposer(text: string): LockedPackage[] {
  const lock = fieldsOf(JSON.parse(text))
  return [lock['packages'], lock['packages-dev']].flatMap((group) =>
    (Array.isArray(group) ? group : []).map((value) => {
      const entry = fieldsOf(value)
      const licenses = Array.isArray(entry['license'])
        ? entry['license'].filter((item) => typeof item === 'string')
        : []
      return locked(textOf(entry['name']) ?? '?', textOf(entry['version']), { license: licenses.join(' OR ') || null })
    }),
  )
}

function parseGemfile(text: string): LockedPackage[] {
  return [...text.matchAll(/^ {4}([^\s(]+) \(([^)]+)\)$/gm)].map(([, name = '', version]) =>
    locked(name, version ?? null),
  )
}

const blocksOf = (text: string, separator: RegExp): string[] => text.split(separator)

const FORMATS: [name: RegExp, format: LockFormat][] = [
  [/^(package-lock|npm-shrinkwrap)\.json$/, { ecosystem: 'npm', parse: parseNpm }],
  [/^yarn\.lock$/, { ecosystem: 'npm', parse: parseYarn }],
  [/^bun\.lock$/, { ecosystem: 'npm', parse: parseBun }],
  [/^pnpm-lock\.yaml$/, { ecosystem: 'npm', parse: parsePnpm }],
  [/^Cargo\.lock$/, { ecosystem: 'Cargo', parse: parsePackageTables((table) => !/^source = /m.test(table)) }],
  [/^go\.mod$/, { ecosystem: 'Go', parse: parseGoMod }],
  [
    /^(poetry|uv)\.lock$/,
    { ecosystem: 'Python', parse: parsePackageTables((table) => /^source = .*(virtual|editable) = /m.test(table)) },
  ],
  [/^requirements[\w.-]*\.txt$/, { ecosystem: 'Python', parse: parseRequirements }],
  [/^Pipfile\.lock$/, { ecosystem: 'Python', parse: parsePipfile }],
  [/^composer\.lock$/, { ecosystem: 'Composer', parse: parseComposer }],
  [/^Gemfile\.lock$/, { ecosystem: 'RubyGems', parse: parseGemfile }],
]

/** By the file's name; null when it is no lock file that we read. */
export const lockFormatOf = (path: string): LockFormat | null =>
  FORMATS.find(([name]) => name.test(basename(path)))?.[1] ?? null
