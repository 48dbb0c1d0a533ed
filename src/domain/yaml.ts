import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseAllDocuments,
} from 'yaml'
import type { Json, JsonObject } from '../base/json.ts'
import type { Problem } from './failure.ts'
import type { FailureCode } from './failures.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'
import { TookTooLong, within } from './within.ts'

/** A document as JSON, the problems of its form, and where each path stands in the text. */
export interface ReadYaml {
  /** Undefined when the text is so broken that nothing can be made of it. */
  value: Json | undefined
  problems: Problem[]
  /** Where the document begins. */
  begin: { line: number; column: number }
  /** Line and column of the value at `path`, or of its nearest ancestor; of the key itself with `at: 'key'`. */
  placeOf(path: Path, at: 'key' | 'value'): { line: number; column: number }
}

// Unique keys are checked here in linear time; the parser's own check compares each key with every other.
const OPTIONS = { uniqueKeys: false, merge: false, schema: 'core', prettyErrors: false, logLevel: 'silent' } as const

/** The documents of a text, and what is wrong with the text as a whole; a text of nothing has neither. */
export interface ReadDocuments {
  documents: ReadYaml[]
  problems: Problem[]
}

/** Reads one YAML or JSON document. Never throws and never hangs, whatever the text; everything found is in `problems`. */
export function readYaml(text: string): ReadYaml {
  const start = { line: 1, column: 1 }
  const { documents, problems } = readYamlDocuments(text)
  const [document, second] = documents
  if (document === undefined) {
    const empty: Problem = { code: 'manifest.invalid', message: 'the manifest is empty', path: '', ...start }
    const [first = empty] = problems
    const place = { line: first.line ?? 1, column: first.column ?? 1 }
    return { value: undefined, problems: problems.length > 0 ? problems : [empty], begin: place, placeOf: () => place }
  }
  if (second)
    document.problems.push({
      code: 'manifest.invalid',
      message: 'the file has more than one document; write one workflow to a file',
      path: '',
      ...second.begin,
    })
  return document
}

/** Reads every document of a YAML or JSON text; empty ones are left out. Never throws and never hangs, whatever the text. */
export function readYamlDocuments(text: string): ReadDocuments {
  const lines = new LineCounter()
  const refuse = (message: string, offset: number, code: FailureCode = 'manifest.invalid'): ReadDocuments => ({
    documents: [],
    problems: [{ code, message, path: '', ...placeInText(text, offset) }],
  })

  const sizeBytes = Buffer.byteLength(text)
  if (sizeBytes > LIMITS.manifestBytes)
    return refuse(`the manifest has ${sizeBytes} bytes; the limit is ${LIMITS.manifestBytes}`, 0, 'manifest.too_large')
  const nul = text.indexOf('\0')
  if (nul >= 0) return refuse('the text has a NUL character', nul)
  const deep = tooDeepAt(text)
  if (deep !== null) return refuse(`nested deeper than ${LIMITS.nestingMax}`, deep)

  let documents: Document[]
  try {
    documents = within(LIMITS.manifestMs, (): Document[] => {
      const parsed = parseAllDocuments(text, { ...OPTIONS, lineCounter: lines })
      return Array.from(parsed)
    })
  } catch (error) {
    return refuse(
      error instanceof TookTooLong ? `reading the manifest ${error.message}` : 'the text cannot be read as YAML',
      0,
    )
  }
  const full = documents.filter(({ contents, errors }, i) => !isNothing(contents) || (i === 0 && errors.length > 0))
  return { documents: full.map((document) => convertDocument(document, lines)), problems: [] }
}

/** What stands between two separators without anything in it. */
const isNothing = (contents: unknown): boolean =>
  contents === null || (isScalar(contents) && contents.value === null && contents.source === '')

function convertDocument(document: Document, lines: LineCounter): ReadYaml {
  const conversion = new Conversion(document, (offset) => placeOf(lines, offset))
  for (const error of [...document.errors, ...document.warnings]) conversion.report(error.message, [], error.pos[0])
  const value = conversion.convert(document.contents, [], 0)
  return {
    value,
    problems: conversion.problems,
    begin: placeOf(lines, document.range?.[0] ?? 0),
    placeOf: (path, at) => placeOf(lines, offsetOf(document, path, at)),
  }
}

const placeOf = (lines: LineCounter, offset: number): { line: number; column: number } => {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(1, line), column: Math.max(1, col) }
}

function placeInText(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset).split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}

/**
 * Where nesting surely passes the limit, or null. A guard for the parser, which recurses: brackets (those inside strings count
 * too, but close again in any honest text), block indicators on one line, and indentation.
 */
function tooDeepAt(text: string): number | null {
  const deepest = LIMITS.nestingMax * 4
  let open = 0
  let columns: number[] = []
  let start = true
  let column = 0
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (char === 10) {
      start = true
      column = 0
      continue
    }
    if (char === 91 || char === 123) open++
    else if ((char === 93 || char === 125) && open > 0) open--
    const isIndicator = start && (char === 45 || char === 63 || char === 58) && /[\s]/.test(text[at + 1] ?? ' ')
    if (start && char !== 32 && char !== 9 && char !== 13) {
      const here = column
      columns = columns.filter((c) => c < here)
      columns.push(here)
      if (!isIndicator) start = false
    }
    column++
    if (open > deepest || columns.length > deepest) return at
  }
  return null
}

/** Escapes can make text that no database keeps. */
const isStorable = (text: string): boolean => !text.includes('\0') && text.isWellFormed()

class Conversion {
  readonly problems: Problem[] = []
  readonly #document: Document
  readonly #place: (offset: number) => { line: number; column: number }
  readonly #open = new Set<unknown>()
  #aliases = 0
  #aliasValues = 0

  constructor(document: Document, place: (offset: number) => { line: number; column: number }) {
    this.#document = document
    this.#place = place
  }

  report(message: string, path: Path, offset: number): undefined {
    if (this.problems.length < LIMITS.problemsMax)
      this.problems.push({ code: 'manifest.invalid', message, path: formatPath(path), ...this.#place(offset) })
    return undefined
  }

  /** JSON of the node; undefined, with a problem reported, where it has none. */
  convert(node: unknown, path: Path, depth: number): Json | undefined {
    const offset = startOf(node)
    if (depth > LIMITS.nestingMax) return this.report(`nested deeper than ${LIMITS.nestingMax}`, path, offset)
    if (this.#open.size > 0 && ++this.#aliasValues > LIMITS.yamlAliasValuesMax) {
      if (this.#aliasValues === LIMITS.yamlAliasValuesMax + 1)
        this.report(`aliases expand to more than ${LIMITS.yamlAliasValuesMax} values`, path, offset)
      return undefined
    }
    if (node === null || node === undefined) return null
    if (isAlias(node)) return this.#convertAlias(node, path, depth)
    if (isScalar(node)) return this.#convertScalar(node.value, path, offset)
    if (isSeq(node)) return node.items.map((item, i) => this.convert(item, [...path, i], depth + 1) ?? null)
    if (isMap(node)) return this.#convertMap(node.items, path, depth)
    return this.report('this is no JSON value', path, offset)
  }

  #convertAlias(alias: Alias, path: Path, depth: number): Json | undefined {
    const offset = startOf(alias)
    this.#aliases++
    if (this.#aliases > LIMITS.yamlAliasMax) {
      if (this.#aliases === LIMITS.yamlAliasMax + 1)
        this.report(`aliases expand more than ${LIMITS.yamlAliasMax} times`, path, offset)
      return undefined
    }
    const target = alias.resolve(this.#document)
    if (target === undefined) return this.report(`the alias *${alias.source} has no anchor before it`, path, offset)
    if (this.#open.has(target)) return this.report(`the alias *${alias.source} contains itself`, path, offset)
    this.#open.add(target)
    const value = this.convert(target, path, depth)
    this.#open.delete(target)
    return value
  }

  #convertScalar(value: unknown, path: Path, offset: number): Json | undefined {
    if (value === null || typeof value === 'boolean') return value
    if (typeof value === 'string')
      return isStorable(value) ? value : this.report('text with U+0000 or half a surrogate pair', path, offset)
    if (typeof value !== 'number') return this.report('this is no JSON value', path, offset)
    if (!Number.isFinite(value)) return this.report('JSON has no such number', path, offset)
    if (Number.isInteger(value) && !Number.isSafeInteger(value))
      return this.report('the number is too large to be exact; quote it', path, offset)
    return value
  }

  #convertMap(pairs: Pair[], path: Path, depth: number): JsonObject {
    const seen = new Set<string>()
    const entries: [string, Json][] = []
    for (const { key, value } of pairs) {
      const name = isScalar(key) && typeof key.value === 'string' ? key.value : null
      const offset = startOf(key) || startOf(value)
      if (name === null) this.report('a key must be a string; quote it', path, offset)
      else if (!isStorable(name)) this.report('a key with U+0000 or half a surrogate pair', path, offset)
      else if (name === '<<') this.report('merge keys are not supported; write the keys out', [...path, name], offset)
      else if (name === '__proto__') this.report('the key __proto__ is not allowed', [...path, name], offset)
      else if (seen.has(name)) this.report(`the key ${JSON.stringify(name)} is there twice`, [...path, name], offset)
      else {
        seen.add(name)
        const converted = this.convert(value, [...path, name], depth + 1)
        if (converted !== undefined) entries.push([name, converted])
      }
    }
    return Object.fromEntries(entries)
  }
}

/** Offset of the key or value at `path`, or of the nearest thing above it that exists. */
function offsetOf(document: Document, path: Path, at: 'key' | 'value'): number {
  let node: unknown = document.contents
  let offset = startOf(node)
  for (const [depth, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document)
    if (isSeq(node) && typeof part === 'number') {
      if (part >= node.items.length) return offset
      node = node.items[part]
      offset = startOf(node) || offset
    } else if (isMap(node)) {
      const pair: Pair | undefined = node.items.find(({ key }) => isScalar(key) && key.value === String(part))
      if (!pair) return offset
      const isEmpty = pair.value === null || startOf(pair.value) === 0
      offset = isEmpty || (at === 'key' && depth === path.length - 1) ? startOf(pair.key) : startOf(pair.value)
      node = pair.value
    } else return offset
  }
  return offset
}

function startOf(node: unknown): number {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return 0
  const start: unknown = node.range[0]
  return typeof start === 'number' ? start : 0
}
