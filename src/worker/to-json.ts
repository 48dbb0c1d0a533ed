import type { Json } from '../base/index.ts'
import { LIMITS } from '../domain/limits.ts'

// The report that carries an output nests it a few levels deeper.
const DEPTH_MAX = LIMITS.nestingMax - 8

export type JsonCopy =
  | { kind: 'json'; value: Json; /** Never less than its size as JSON in UTF-8, often more. */ bytesMax: number }
  | { kind: 'not_json'; path: string; problem: string }

class NotJson extends Error {
  readonly path: (string | number)[] = []
}

/**
 * A copy of `value` as plain JSON. Values with `toJSON` (dates) are taken at their word, undefined members are left out;
 * what JSON would silently lose (NaN, functions, maps, cycles) is refused with its path.
 */
export function toJson(value: unknown): JsonCopy {
  const size = { bytes: 0 }
  try {
    return { kind: 'json', value: copy(value, 0, size), bytesMax: size.bytes }
  } catch (error) {
    if (error instanceof NotJson) return { kind: 'not_json', path: pathText(error.path), problem: error.message }
    // A getter or toJSON of the author's threw.
    return { kind: 'not_json', path: 'output', problem: error instanceof Error ? error.message : String(error) }
  }
}

function copy(value: unknown, depth: number, size: { bytes: number }): Json {
  switch (typeof value) {
    case 'string':
      // Worst case: each unit is escaped to six characters. Who needs it exactly measures again.
      size.bytes += value.length * 6 + 3
      return value
    case 'number':
      if (!Number.isFinite(value)) throw new NotJson(`${value} is no JSON number`)
      size.bytes += 25
      return value
    case 'boolean':
      size.bytes += 6
      return value
    case 'object':
      break
    case 'bigint':
      throw new NotJson('a bigint is no JSON number; return a string')
    default:
      throw new NotJson(`a value of type ${typeof value} is not JSON`)
  }
  if (value === null) {
    size.bytes += 5
    return null
  }
  if (depth > DEPTH_MAX) throw new NotJson(`nested deeper than ${DEPTH_MAX} levels, or it refers to itself`)
  size.bytes += 3
  return Array.isArray(value) ? copyArray(value, depth, size) : copyObject(value, depth, size)
}

function copyArray(list: readonly unknown[], depth: number, size: { bytes: number }): Json {
  const out: Json[] = []
  for (let i = 0; i < list.length; i++) {
    try {
      out.push(copy(list[i], depth + 1, size))
    } catch (error) {
      if (error instanceof NotJson) error.path.unshift(i)
      throw error
    }
  }
  return out
}

function copyObject(object: object, depth: number, size: { bytes: number }): Json {
  if ('toJSON' in object && typeof object.toJSON === 'function') return copy(object.toJSON(), depth + 1, size)
  const proto: unknown = Object.getPrototypeOf(object)
  if (object instanceof Map || object instanceof Set || object instanceof Promise || ArrayBuffer.isView(object)) {
    throw new NotJson(`a ${object.constructor.name} is not JSON`)
  }
  const out: Record<string, Json> = {}
  for (const [name, member] of Object.entries(object)) {
    if (member === undefined) continue
    size.bytes += name.length * 6 + 4
    try {
      const json = copy(member, depth + 1, size)
      // Plain assignment would set the prototype instead of a member.
      if (name === '__proto__') Object.defineProperty(out, name, { value: json, enumerable: true })
      else out[name] = json
    } catch (error) {
      if (error instanceof NotJson) error.path.unshift(name)
      throw error
    }
  }
  // An error has no members of its own that JSON would keep: it would arrive as {}.
  if (object instanceof Error && proto !== null) throw new NotJson('an Error is not JSON; throw it instead')
  return out
}

function pathText(path: readonly (string | number)[]): string {
  return path.reduce<string>((text, part) => text + (typeof part === 'number' ? `[${part}]` : `.${part}`), 'output')
}

/** Cuts `text` to about `max` bytes of UTF-8 and says so. */
export function boundText(text: string, max: number): string {
  if (text.length * 3 <= max || Buffer.byteLength(text) <= max) return text
  return `${Buffer.from(text).subarray(0, max).toString('utf8')}… (cut at ${max} bytes)`
}
