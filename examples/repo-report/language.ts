import { basename, extname } from 'node:path'

export interface Language {
  name: string
  /** What begins a comment that ends with its line. */
  line: string[]
  /** What begins and ends a comment over several lines. */
  block: [string, string] | null
}

const C_LIKE = { line: ['//'], block: ['/*', '*/'] } satisfies Omit<Language, 'name'>
const HASH = { line: ['#'], block: null } satisfies Omit<Language, 'name'>
const MARKUP = { line: [], block: ['<!--', '-->'] } satisfies Omit<Language, 'name'>
const DASHES = { line: ['--'], block: ['/*', '*/'] } satisfies Omit<Language, 'name'>
const NONE = { line: [], block: null } satisfies Omit<Language, 'name'>

const TABLE: [name: string, comments: Omit<Language, 'name'>, endings: string][] = [
  ['TypeScript', C_LIKE, 'ts tsx mts cts'],
  ['JavaScript', C_LIKE, 'js jsx mjs cjs'],
  ['Python', { line: ['#'], block: ['"""', '"""'] }, 'py pyi'],
  ['Go', C_LIKE, 'go'],
  ['Rust', C_LIKE, 'rs'],
  ['Java', C_LIKE, 'java'],
  ['Kotlin', C_LIKE, 'kt kts'],
  ['Scala', C_LIKE, 'scala'],
  ['Swift', C_LIKE, 'swift'],
  ['C', C_LIKE, 'c h'],
  ['C++', C_LIKE, 'cc cpp cxx hpp hh'],
  ['C#', C_LIKE, 'cs'],
  ['PHP', { line: ['//', '#'], block: ['/*', '*/'] }, 'php'],
  ['Ruby', HASH, 'rb rake Gemfile Rakefile'],
  ['Elixir', HASH, 'ex exs'],
  ['Shell', HASH, 'sh bash zsh'],
  ['SQL', DASHES, 'sql'],
  ['Lua', DASHES, 'lua'],
  ['Haskell', { line: ['--'], block: ['{-', '-}'] }, 'hs'],
  ['CSS', { line: [], block: ['/*', '*/'] }, 'css'],
  ['SCSS', C_LIKE, 'scss less'],
  ['HTML', MARKUP, 'html htm'],
  ['Vue', MARKUP, 'vue'],
  ['Svelte', MARKUP, 'svelte'],
  ['XML', MARKUP, 'xml xsd'],
  ['SVG', MARKUP, 'svg'],
  ['Markdown', MARKUP, 'md mdx'],
  ['YAML', HASH, 'yaml yml'],
  ['TOML', HASH, 'toml'],
  ['JSON', NONE, 'json jsonc jsonl'],
  ['Protocol Buffers', C_LIKE, 'proto'],
  ['Terraform', { line: ['#', '//'], block: ['/*', '*/'] }, 'tf hcl'],
  ['Dockerfile', HASH, 'Dockerfile'],
  ['Makefile', HASH, 'Makefile mk'],
]

const BY_ENDING = new Map<string, Language>(
  TABLE.flatMap(([name, comments, endings]) =>
    endings.split(' ').map((ending) => [ending, { name, ...comments }] as const),
  ),
)

/** By the file's ending or whole name; null when neither tells. */
export const languageOf = (path: string): Language | null =>
  BY_ENDING.get(basename(path)) ?? BY_ENDING.get(extname(path).slice(1).toLowerCase()) ?? null

const TEST_PATH = /(^|\/)(tests?|__tests__|specs?)\/|[._-](test|spec)\.[a-z]+$|(^|\/)test_[^/]*\.py$|_test\.go$/

export const isTest = (path: string): boolean => TEST_PATH.test(path)
