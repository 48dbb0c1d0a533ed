// The rules of the house as functions of a file's name and text, so that each can be shown a planted violation.
import { dirname, join, normalize } from 'node:path/posix'

export interface SourceFile {
  /** From the root of the checkout, with `/`. */
  path: string
  text: string
}

export type Rule = (file: SourceFile) => string[]

const RANK: Record<string, number> = {
  base: 0,
  domain: 1,
  contract: 2,
  store: 2,
  delivery: 2,
  telemetry: 2,
  backends: 2,
  agents: 2,
  sdk: 2,
  engine: 3,
  client: 3,
  diagnose: 3,
  api: 4,
  worker: 4,
  operator: 4,
  cli: 5,
  app: 6,
}
/** These speak to the control plane over the wire, so its insides are closed to them. */
const BEYOND_THE_WIRE = new Set(['client', 'worker', 'operator', 'cli'])
const INSIDES = new Set(['store', 'delivery', 'engine', 'api'])

/** Programs of their own, which no Clock is handed to, with the bans that do not hold there. */
const PROGRAMS: Record<string, RegExp> = {
  // Runs alone beside the command, with nothing but Node's own modules loaded, and outlives the worker that started it.
  'src/backends/process/shim-host.ts': /timer|clock|environment|console/,
  // Runs one module of a tool alone in a process, whose environment is the module's.
  'src/agents/tools/wasm-host.ts': /environment/,
  // Runs in a thread of its own, so that a step which blocks the event loop does not look dead.
  'src/worker/heartbeat-thread.ts': /timer|clock/,
}

/** `testing/` holds what several tests of one folder share. */
const isTest = (path: string): boolean => /\.(test|suite|bench)\.ts$|^src\/[^/]+\/testing\//.test(path)
const folderOf = (path: string): string | null => /^src\/([^/]+)\//.exec(path)?.[1] ?? null

/** The text with comments gone and strings emptied; line breaks stay, so that lines keep their numbers. */
export function codeOnly(text: string): string {
  let out = ''
  let i = 0
  const nested: number[] = [] // brace depth at which each open template goes on
  let depth = 0
  const copyBreaks = (from: number, to: number) => {
    for (let k = from; k < to; k++) if (text[k] === '\n') out += '\n'
  }
  const template = () => {
    // At the first character inside a template; leaves it at its end or inside `${`.
    while (i < text.length) {
      if (text[i] === '\\') i += 2
      else if (text[i] === '`') {
        out += '`'
        i++
        return
      } else if (text.startsWith('${', i)) {
        out += '${'
        i += 2
        nested.push(depth++)
        return
      } else {
        if (text[i] === '\n') out += '\n'
        i++
      }
    }
  }
  while (i < text.length) {
    const c = text[i] ?? ''
    if (text.startsWith('//', i)) {
      while (i < text.length && text[i] !== '\n') i++
    } else if (text.startsWith('/*', i)) {
      const end = text.indexOf('*/', i + 2)
      const stop = end < 0 ? text.length : end + 2
      copyBreaks(i, stop)
      i = stop
    } else if (c === "'" || c === '"') {
      i++
      while (i < text.length && text[i] !== c && text[i] !== '\n') i += text[i] === '\\' ? 2 : 1
      i++
      out += c + c
    } else if (c === '`') {
      out += '`'
      i++
      template()
    } else if (c === '/' && /(^|[(,=:[!&|?{};+>]|\breturn|\btypeof|\bcase)\s*$/.test(out.slice(-40))) {
      i++
      for (let inClass = false; i < text.length && text[i] !== '\n'; i++) {
        if (text[i] === '\\') i++
        else if (text[i] === '[') inClass = true
        else if (text[i] === ']') inClass = false
        else if (text[i] === '/' && !inClass) break
      }
      i++
      out += '/ /'
    } else {
      if (c === '{') depth++
      if (c === '}') depth--
      out += c
      i++
      if (c === '}' && nested.at(-1) === depth) {
        nested.pop()
        template()
      }
    }
  }
  return out
}

export interface Import {
  /** Path of the imported file, from the root. */
  to: string
  isTypeOnly: boolean
}

/** Relative imports and re-exports of a file. */
export function importsOf({ path, text }: SourceFile): Import[] {
  const found: Import[] = []
  const statement = /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?['"](\.[^'"]+)['"]/gm
  for (const [, type, spec = ''] of text.matchAll(statement)) {
    found.push({ to: normalize(join(dirname(path), spec)), isTypeOnly: type !== undefined })
  }
  for (const [, spec = ''] of text.matchAll(/\bimport\(\s*['"](\.[^'"]+)['"]\s*\)/g)) {
    found.push({ to: normalize(join(dirname(path), spec)), isTypeOnly: false })
  }
  return found
}

export const ranks: Rule = (file) => {
  const from = folderOf(file.path)
  // A test may stand on what is above it: it proves the parts together.
  if (from === null || isTest(file.path)) return []
  if (!(from in RANK)) return [`src/${from}/ has no rank: add it to the table of ranks`]
  return importsOf(file).flatMap(({ to }) => {
    const folder = folderOf(to)
    if (folder === from) return []
    if (folder === null) return [`${file.path}: src may not import ${to}, which lies outside`]
    const wrong: string[] = []
    if ((RANK[folder] ?? Infinity) >= (RANK[from] ?? -1)) wrong.push(`${file.path}: ${from} may not import ${folder}`)
    if (BEYOND_THE_WIRE.has(from) && INSIDES.has(folder)) {
      wrong.push(`${file.path}: ${from} must ask ${folder} over the contract`)
    }
    return wrong
  })
}

interface Ban {
  name: string
  pattern: RegExp
  /** Whether the ban holds in this file. */
  holds(path: string): boolean
}

const inSource = (path: string): boolean => path.startsWith('src/') && !isTest(path)
const outsideBase = (path: string): boolean => inSource(path) && folderOf(path) !== 'base'
const outsideOf =
  (...folders: string[]) =>
  (path: string): boolean =>
    inSource(path) && !folders.includes(folderOf(path) ?? '')

const BANS: Ban[] = [
  { name: 'reads the clock; take a Clock', pattern: /\bDate\.now\b|\bnew Date\(\s*\)/, holds: outsideBase },
  { name: 'measures with the clock; take a Clock', pattern: /\bperformance\.now\b|\bhrtime\b/, holds: outsideBase },
  { name: 'throws dice; take a Random', pattern: /\bMath\.random\b/, holds: outsideBase },
  { name: 'makes ids; take an Ids', pattern: /\brandomUUID\b/, holds: outsideBase },
  {
    name: 'sets a timer; take a Clock and sleep',
    pattern: /\bset(Timeout|Interval|Immediate)\b\s*\(|timers\/promises/,
    holds: outsideBase,
  },
  { name: 'reads the environment; only app/ does', pattern: /\bprocess\.env\b/, holds: outsideOf('app') },
  { name: 'writes to the console; take a Log', pattern: /\bconsole\.\w+/, holds: outsideOf('cli', 'app') },
  { name: 'says any', pattern: /:\s*any\b|\bas any\b|<any\b|\bany\[\]/, holds: () => true },
  { name: 'declares an enum', pattern: /^\s*(export\s+)?(declare\s+)?(const\s+)?enum\s+\w/m, holds: () => true },
  { name: 'silences the compiler', pattern: /@ts-(ignore|nocheck)/, holds: () => true },
]

/** Time, chance, environment and console come from outside; types are honest. */
export const bans: Rule = ({ path, text }) => {
  const code = codeOnly(text)
  const spared = PROGRAMS[path]
  return BANS.filter((ban) => ban.holds(path) && !spared?.test(ban.name)).flatMap((ban) => {
    const seen = ban.name.includes('compiler') ? text : ban.name.includes('timer') ? withImports(code, text) : code
    const match = ban.pattern.exec(seen)
    return match ? [`${path}:${lineOf(seen, match.index)}: ${ban.name}`] : []
  })
}

/** Strings are emptied in `code`, but the names of imported modules matter here. */
const withImports = (code: string, text: string): string =>
  code + [...text.matchAll(/^import [^\n]*'node:timers\/promises'/gm)].map(([line]) => `\n${line}`).join('')

const lineOf = (text: string, index: number): number => text.slice(0, index).split('\n').length

export const unfinished: Rule = ({ path, text }) => {
  // At the start of a comment: a program may well read and count such marks in the files of others.
  const mark = new RegExp(`^[^'"\`]*(//|/\\*|\\*)\\s*(TODO|FIXME|XXX)\\b`)
  return text.split('\n').flatMap((line, i) => (mark.test(line) ? [`${path}:${i + 1}: is unfinished`] : []))
}

/** `.skipIf(…)` with a reason is how a test says what it needs; a plain skip is forgotten. */
export const noLostTests: Rule = ({ path, text }) => {
  if (!isTest(path)) return []
  const code = codeOnly(text)
  const match = /\b(test|it|describe)(\.\w+)*\.(only|skip|todo)\s*\(/.exec(code)
  return match ? [`${path}:${lineOf(code, match.index)}: .${match[3]} keeps tests from running`] : []
}

export const namedForOneThing: Rule = ({ path }) =>
  /(^|\/)(utils?|helpers?|common|misc|shared|types)(\.\w+)*$/.test(path.replace(/\.(test|suite)\.ts$|\.ts$/, ''))
    ? [`${path}: name the file for the one thing in it`]
    : []

export const plainFrontDoor: Rule = ({ path, text }) =>
  /^src\/[^/]+\/index\.ts$/.test(path) && /^export \*/m.test(text) ? [`${path}: export by name, not with *`] : []

/** Each folder of src has a front door. */
export function missingFrontDoors(paths: readonly string[]): string[] {
  const all = new Set(paths)
  const folders = new Set(paths.filter((p) => p.endsWith('.ts')).map(folderOf))
  return [...folders].filter((f) => f !== null && !all.has(`src/${f}/index.ts`)).map((f) => `src/${f}/ has no index.ts`)
}

/** Another folder is entered by its front door or by the file itself, never by its tests. */
export const noImportOfTests: Rule = (file) =>
  isTest(file.path) || file.path.startsWith('test/')
    ? []
    : importsOf(file)
        .filter(({ to }) => isTest(to))
        .map(({ to }) => `${file.path}: imports the test ${to}`)

const NOT_OURS: [RegExp, string][] = [
  [/(?<![\w.])\/(work\/(main|shared|\.)|root\/)/, 'a path of one machine'],
  [/(?<![\w.])\/home\/(?!orrery\b)\w+\//, "a path of one person's machine"],
  [/\bregistry\.(npmjs|yarnpkg)\b|\bdeb\.debian\.org\b|"resolved": "https?:/, 'the host of a package registry'],
]

/** Tracked files say nothing of the machine they were made on. */
export const noForeignPlaces: Rule = ({ path, text }) =>
  NOT_OURS.flatMap(([pattern, what]) => {
    const match = pattern.exec(text)
    return match ? [`${path}:${lineOf(text, match.index)}: names ${what}`] : []
  })

/** Circles of imports between files, each once. Imports of types alone are left out: they are gone when the program runs. */
export function importCycles(files: readonly SourceFile[]): string[] {
  const edges = new Map(files.map((f) => [f.path, importsOf(f).flatMap((i) => (i.isTypeOnly ? [] : [i.to]))]))
  const done = new Set<string>()
  const cycles: string[] = []
  const walk = (path: string, trail: string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      cycles.push([...trail.slice(at), path].join(' → '))
      return
    }
    if (done.has(path)) return
    for (const to of edges.get(path) ?? []) walk(to, [...trail, path])
    done.add(path)
  }
  for (const path of edges.keys()) walk(path, [])
  return cycles
}

export const changelogOpensWithPending: Rule = ({ path, text }) =>
  path === 'CHANGELOG.md' && /^## (.*)$/m.exec(text)?.[1]?.trim() !== 'Pending'
    ? ['CHANGELOG.md: its first section is Pending']
    : []

export interface Extent {
  name: string
  lines: number
}

/** Functions with a block body and how many lines each has. A reading by brackets, good enough to look at. */
export function functionsOf({ path, text }: SourceFile): Extent[] {
  const lines = codeOnly(text).split('\n')
  const open: { name: string | null; line: number }[] = []
  const found: Extent[] = []
  lines.forEach((line, at) => {
    for (const [index, c] of line.split('').entries()) {
      if (c === '{') {
        const head = line.slice(0, index)
        const isBody =
          /(=>\s*|\)\s*(:[^={}]*)?)$/.test(head) && !/^\s*(\}\s*)?(else\s+)?(if|for|while|switch|catch)\b/.test(head)
        const name = /(?:function\*?\s+|const\s+|(?:static|async|get|set)\s+|^\s*)(#?[A-Za-z_]\w*)/.exec(head)?.[1]
        open.push({ name: isBody ? (name ?? 'anonymous') : null, line: at })
      }
      if (c === '}') {
        const body = open.pop()
        if (body?.name) found.push({ name: `${path}:${body.line + 1} ${body.name}`, lines: at - body.line + 1 })
      }
    }
  })
  return found
}

export const RULES: readonly Rule[] = [
  ranks,
  bans,
  unfinished,
  noLostTests,
  namedForOneThing,
  plainFrontDoor,
  noImportOfTests,
]
