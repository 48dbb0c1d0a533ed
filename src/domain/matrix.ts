import type { Json, JsonObject } from '../base/json.ts'
import type { Scope } from './expression.ts'
import { Failure } from './failure.ts'
import { evaluateTemplate } from './template.ts'
import type { Matrix } from './workflow.ts'

/**
 * The combinations of a matrix: the product of its axes in the order in which they are written, the last one turning fastest, without
 * those that `exclude` names, and then what `include` adds. Never more than `limit`: beyond it throws `foreach.too_large`.
 */
export function combinationsOf(matrix: Matrix, scope: Scope, options: { what: string; limit: number }): JsonObject[] {
  const { what, limit } = options
  const axes = Object.entries(matrix.axes).map(([name, axis]) => ({ name, values: listOf(axis, scope, what, name) }))
  // Counted before anything is made: three short axes can have a long product.
  const size = axes.reduce((product, axis) => product * axis.values.length, axes.length > 0 ? 1 : 0)
  const include = objectsOf(matrix.include, scope, what, 'include')
  if (size + include.length > limit)
    throw new Failure('foreach.too_large', what, { evidence: { items: size + include.length, limit } })
  let combinations: JsonObject[] = axes.length > 0 ? [{}] : []
  for (const { name, values } of axes)
    combinations = combinations.flatMap((before) => values.map((value) => ({ ...before, [name]: value })))
  const exclude = objectsOf(matrix.exclude, scope, what, 'exclude')
  return [...combinations.filter((one) => !exclude.some((pattern) => hasAll(one, pattern))), ...include]
}

const hasAll = (one: JsonObject, pattern: JsonObject): boolean =>
  Object.entries(pattern).every(([key, value]) => JSON.stringify(one[key]) === JSON.stringify(value))

function listOf(template: Json, scope: Scope, what: string, name: string): Json[] {
  const value = evaluateTemplate(template, scope)
  if (Array.isArray(value)) return value
  throw new Failure('expression.unresolved', `${what}: ${name} of the matrix gives no list`, {
    evidence: { path: `matrix.${name}`, got: value === null ? 'null' : typeof value },
  })
}

function objectsOf(template: Json, scope: Scope, what: string, name: string): JsonObject[] {
  const list = listOf(template, scope, what, name)
  const wrong = list.findIndex((entry) => typeof entry !== 'object' || entry === null || Array.isArray(entry))
  if (wrong < 0) return list as JsonObject[] // as the line above has just seen
  throw new Failure('expression.unresolved', `${what}: ${name}[${wrong}] of the matrix is no map of axes to values`, {
    evidence: { path: `matrix.${name}[${wrong}]` },
  })
}
