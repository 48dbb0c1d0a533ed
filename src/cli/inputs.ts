import path from 'node:path'
import { type Json, type JsonObject, nearest } from '../base/index.ts'
import { Failure, type Problem } from '../domain/failure.ts'
import type { CliDeps } from './deps.ts'
import { usageFailure } from './usage.ts'

type Files = Pick<CliDeps, 'readFile' | 'cwd'>

/** The text of a file; `file.unreadable` says which path was tried. */
export async function readText(deps: Files, file: string, what: string): Promise<string> {
  const full = path.resolve(deps.cwd, file)
  try {
    return await deps.readFile(full)
  } catch (error) {
    throw new Failure('file.unreadable', `reading ${what} ${file}`, { cause: error, evidence: { path: full } })
  }
}

/** What an argument says: itself, with @ the text of a file, as `-` what comes on standard input. */
export async function readGiven(deps: Files & Pick<CliDeps, 'stdin'>, given: string, what: string): Promise<string> {
  if (given === '-') return deps.stdin.readText()
  return given.startsWith('@') ? readText(deps, given.slice(1), what) : given
}

/** Like `readGiven`, of what may not be blank. */
export async function readGivenText(...args: Parameters<typeof readGiven>): Promise<string> {
  const text = await readGiven(...args)
  if (text.trim() === '') throw usageFailure(`${args[2]} is empty`)
  return text
}

/**
 * The inputs of a run: those of `--inputs FILE`, then each `--input name=value` over them. A value is JSON where the schema
 * wants something else than a text, `@file` is the text of a file. Reports every wrong one at once.
 */
export async function readInputs(
  deps: Files,
  given: { inputs: string | undefined; input: string[]; schema: JsonObject | null },
): Promise<JsonObject> {
  const inputs: JsonObject = given.inputs === undefined ? {} : await readInputsFile(deps, given.inputs)
  const problems: Problem[] = []
  for (const pair of given.input) {
    const at = pair.indexOf('=')
    if (at < 1) {
      problems.push(problem(pair, `--input ${pair}: must have the form name=value`))
      continue
    }
    const name = pair.slice(0, at)
    const raw = pair.slice(at + 1)
    const text = raw.startsWith('@') ? await readText(deps, raw.slice(1), `input ${name} from`) : raw
    const parsed = parseInput(name, text, given.schema)
    if ('problem' in parsed) problems.push(parsed.problem)
    else inputs[name] = parsed.value
  }
  if (problems.length > 0) {
    const many = `${problems.length} problem${problems.length === 1 ? '' : 's'}`
    throw new Failure('input.invalid', `reading the inputs: ${many}`, {
      evidence: { problems: problems.map((p) => ({ ...p })) },
    })
  }
  return inputs
}

async function readInputsFile(deps: Files, file: string): Promise<JsonObject> {
  const value = parseJson(await readText(deps, file, 'the inputs'))
  if ('wrong' in value) {
    throw new Failure('input.invalid', `reading the inputs ${file}: not JSON`, { cause: value.wrong })
  }
  const json = value.json
  if (json === null || typeof json !== 'object' || Array.isArray(json)) {
    throw new Failure('input.invalid', `reading the inputs ${file}: must be one JSON object`)
  }
  return json
}

function parseInput(name: string, text: string, schema: JsonObject | null): { value: Json } | { problem: Problem } {
  const properties = objectAt(schema, 'properties')
  const closed = schema?.['additionalProperties'] === false
  const property = properties ? objectAt(properties, name) : null
  if (properties && closed && !Object.hasOwn(properties, name)) {
    const names = Object.keys(properties)
    const near = nearest(name, names)
    const message = `the workflow has no input ${JSON.stringify(name)}; it has ${names.join(', ') || 'none'}`
    return { problem: { ...problem(name, message), ...(near ? { nearest: near } : {}) } }
  }
  const types = typesOf(property)
  if (types.includes('string') || types.length === 0) {
    // A schema that allows a text beside other types gets the other type where the value has its form.
    const others = types.filter((type) => type !== 'string')
    const parsed = others.length > 0 ? parseJson(text) : null
    if (parsed && 'json' in parsed && others.some((type) => isOfType(parsed.json, type))) return { value: parsed.json }
    return { value: text }
  }
  const parsed = parseJson(text)
  if ('wrong' in parsed || !types.some((type) => isOfType(parsed.json, type))) {
    const shown = text.length > 60 ? `${text.slice(0, 60)}…` : text
    return { problem: problem(name, `${JSON.stringify(shown)} is not of type ${types.join(' or ')}`) }
  }
  return { value: parsed.json }
}

const problem = (name: string, message: string): Problem => ({ code: 'input.invalid', path: name, message })

function objectAt(object: JsonObject | null, key: string): JsonObject | null {
  const value = object?.[key]
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : null
}

/** Types that a property's schema names; empty when it leaves them open. */
function typesOf(property: JsonObject | null): string[] {
  const type = property?.['type']
  if (typeof type === 'string') return [type]
  return Array.isArray(type) ? type.filter((item) => typeof item === 'string') : []
}

function isOfType(value: Json, type: string): boolean {
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return value !== null && typeof value === 'object' && !Array.isArray(value)
  if (type === 'null') return value === null
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

/** JSON of a text, or what is wrong with it. */
export function parseJson(text: string): { json: Json } | { wrong: Error } {
  try {
    return { json: JSON.parse(text) as Json } // JSON.parse gives nothing but JSON values
  } catch (error) {
    return { wrong: error instanceof Error ? error : new Error(String(error)) }
  }
}
