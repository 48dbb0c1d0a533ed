import { createHash } from 'node:crypto'
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import type { Json, JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { Problem } from './failure.ts'
import type { FailureCode } from './failures.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'
import { TookTooLong, within } from './within.ts'

// Formats are notes, as JSON Schema 2020-12 has it; an unknown keyword is an error, because it is a keyword mistyped.
const OPTIONS = {
  allErrors: true,
  verbose: true,
  strict: true,
  strictTypes: false,
  strictTuples: false,
  strictRequired: false,
  validateFormats: false,
} as const
const plain = new Ajv2020({ ...OPTIONS, logger: false })
const filling = new Ajv2020({ ...OPTIONS, useDefaults: true, logger: false })

export interface SchemaProblem {
  path: Path
  message: string
}

type Compiled = { ok: true; validate: ValidateFunction; watched: boolean } | { ok: false; problems: SchemaProblem[] }

const byIdentity = { plain: new WeakMap<JsonObject, Compiled>(), filling: new WeakMap<JsonObject, Compiled>() }
const byHash = new Map<string, Compiled>()

/** What is wrong with a schema itself; empty when it can be used. */
export function schemaProblems(schema: JsonObject): SchemaProblem[] {
  const compiled = compileSchema(schema, 'plain')
  return compiled.ok ? [] : compiled.problems
}

/** Key under which two equal schemas are one. */
export const schemaKey = (schema: JsonObject): string =>
  createHash('sha256').update(JSON.stringify(schema)).digest('base64')

/**
 * Problems of `value` against `schema`, all of them, with paths below `root`. With `mode: 'filling'` the schema's defaults are
 * written into `value`. A schema that explodes on this value (a pattern can) is stopped in time and is a problem too.
 */
export function validateJson(
  value: Json,
  schema: JsonObject,
  options: { mode: 'plain' | 'filling'; code: FailureCode; root: string },
): Problem[] {
  const compiled = compileSchema(schema, options.mode)
  const at = (path: Path): string => formatPath([options.root, ...path])
  if (!compiled.ok)
    return compiled.problems.map((p) => ({
      code: options.code,
      message: `the schema cannot be used: ${p.message}`,
      path: at([]),
    }))
  const { validate } = compiled
  try {
    if (compiled.watched ? within(LIMITS.schemaMs, () => validate(value)) : validate(value)) return []
  } catch (error) {
    const why =
      error instanceof TookTooLong
        ? `checking it ${error.message}; the schema is too costly`
        : 'the schema refers to itself without end'
    return [{ code: options.code, message: why, path: at([]) }]
  }
  const errors = (validate.errors ?? []).filter((error) => error.keyword !== 'if')
  return errors.slice(0, LIMITS.problemsMax).map((error) => ({ code: options.code, ...describe(error, value, at) }))
}

function compileSchema(schema: JsonObject, mode: 'plain' | 'filling'): Compiled {
  const known = byIdentity[mode].get(schema)
  if (known) return known
  const key = `${mode} ${schemaKey(schema)}`
  const compiled = byHash.get(key) ?? compileAnew(schema, mode)
  byHash.delete(key)
  byHash.set(key, compiled)
  if (byHash.size > LIMITS.schemaCacheMax) {
    const [oldest] = byHash.keys()
    if (oldest !== undefined) byHash.delete(oldest)
  }
  byIdentity[mode].set(schema, compiled)
  return compiled
}

function compileAnew(schema: JsonObject, mode: 'plain' | 'filling'): Compiled {
  const ajv = mode === 'plain' ? plain : filling
  // The id would make two schemas with one id collide, and nothing may refer to it from elsewhere.
  const { $id: _, $schema: __, ...own } = schema
  const problems = referenceProblems(schema)
  try {
    if (!ajv.validateSchema(own)) for (const found of metaProblems(ajv.errors ?? [], own)) problems.push(found)
    if (problems.length > 0) return { ok: false, problems: problems.slice(0, LIMITS.problemsMax) }
    const watched = /"(pattern|patternProperties|uniqueItems|contains|\$ref|\$dynamicRef)"/.test(JSON.stringify(own))
    return { ok: true, validate: ajv.compile(own), watched }
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)
    const keyword = /unknown keyword: "(.*)"$/.exec(message)?.[1]
    const path = keyword === undefined ? [] : (pathToKey(own, keyword) ?? [])
    return { ok: false, problems: [{ path, message: message.replace('strict mode: ', '').slice(0, 300) }] }
  } finally {
    ajv.removeSchema(own)
  }
}

/** The first error for each place: the meta-schema tries several forms, and the rest are echoes. */
function metaProblems(errors: ErrorObject[], schema: JsonObject): SchemaProblem[] {
  const first = new Map<string, ErrorObject>()
  for (const error of errors) if (!first.has(error.instancePath)) first.set(error.instancePath, error)
  return [...first.values()].map((error) => {
    const allowed: unknown = error.params['allowedValues']
    const values = Array.isArray(allowed) ? `must be one of ${allowed.join(', ')}` : null
    return { path: pathOf(error.instancePath, schema), message: values ?? error.message ?? error.keyword }
  })
}

function pathToKey(schema: JsonObject, key: string): Path | null {
  const work: { value: Json; path: Path }[] = [{ value: schema, path: [] }]
  for (let next = work.shift(); next; next = work.shift()) {
    const { value, path } = next
    if (typeof value !== 'object' || value === null) continue
    for (const [name, child] of Object.entries(value)) {
      const here = [...path, Array.isArray(value) ? Number(name) : name]
      if (name === key && path.at(-1) !== 'properties') return here
      work.push({ value: child, path: here })
    }
  }
  return null
}

/** References may point inside the schema only: nothing is ever fetched. */
function referenceProblems(schema: JsonObject): SchemaProblem[] {
  const problems: SchemaProblem[] = []
  const dialect = schema['$schema']
  if (dialect !== undefined && dialect !== 'https://json-schema.org/draft/2020-12/schema')
    problems.push({ path: ['$schema'], message: 'must be https://json-schema.org/draft/2020-12/schema, or left out' })
  const work: { value: Json; path: Path }[] = [{ value: schema, path: [] }]
  for (let next = work.pop(); next && problems.length < LIMITS.problemsMax; next = work.pop()) {
    const { value, path } = next
    if (typeof value !== 'object' || value === null) continue
    for (const [key, child] of Object.entries(value)) {
      const here = [...path, Array.isArray(value) ? Number(key) : key]
      if (['const', 'enum', 'default', 'examples'].includes(key) && !Array.isArray(value)) continue
      if ((key === '$ref' || key === '$dynamicRef') && typeof child === 'string' && !child.startsWith('#'))
        problems.push({
          path: here,
          message: `refers to ${JSON.stringify(child.slice(0, 120))}; only references inside the schema (#/…) are allowed`,
        })
      else if (key === '$id' && typeof child === 'string' && path.length > 0)
        problems.push({ path: here, message: 'only the schema as a whole may have an $id' })
      else work.push({ value: child, path: here })
    }
  }
  return problems
}

function describe(error: ErrorObject, value: Json, at: (path: Path) => string): Omit<Problem, 'code'> {
  const path = pathOf(error.instancePath, value)
  const params: Record<string, unknown> = error.params
  if (error.keyword === 'required')
    return { message: 'is required', path: at([...path, String(params['missingProperty'])]) }
  if (error.keyword === 'additionalProperties' || error.keyword === 'unevaluatedProperties') {
    const key = String(params['additionalProperty'] ?? params['unevaluatedProperty'])
    const properties: unknown = error.parentSchema?.['properties']
    return withNearest(
      { message: 'is not known to the schema', path: at([...path, key]) },
      key,
      Object.keys(properties ?? {}),
    )
  }
  if (error.keyword === 'enum' && Array.isArray(params['allowedValues'])) {
    const allowed: unknown[] = params['allowedValues']
    const message = `must be one of ${allowed
      .slice(0, 20)
      .map((v) => JSON.stringify(v))
      .join(', ')}`
    const given: unknown = error.data
    const texts = allowed.filter((v) => typeof v === 'string')
    return withNearest({ message, path: at(path) }, typeof given === 'string' ? given : '', texts)
  }
  return { message: error.message ?? `does not fit ${error.keyword}`, path: at(path) }
}

function withNearest(problem: Omit<Problem, 'code'>, text: string, candidates: string[]): Omit<Problem, 'code'> {
  const near = text === '' ? null : nearest(text, candidates)
  return near === null ? problem : { ...problem, nearest: near }
}

/** A JSON pointer as a path; whether a segment is an index, the value itself tells. */
function pathOf(pointer: string, value: Json): Path {
  let here: Json | undefined = value
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => {
      if (Array.isArray(here)) {
        here = here[Number(part)]
        return Number(part)
      }
      here = typeof here === 'object' && here !== null && Object.hasOwn(here, part) ? here[part] : undefined
      return part
    })
}
