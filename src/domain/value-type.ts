import type { Json, JsonObject } from '../base/json.ts'

/** What expressions tell apart in JSON. */
export type Kind = 'null' | 'bool' | 'number' | 'string' | 'list' | 'map'

/** Values that may stand at a place. It may be too wide, never too narrow: what it leaves out cannot be there. */
export interface ValueType {
  /** Null: every kind, and what CEL knows beside JSON. */
  kinds: ReadonlySet<Kind> | null
  /** Of a map, what its members may be, as far as it is known. */
  members: ReadonlyMap<string, ValueType>
  /** A map has no members beside these. */
  isClosed: boolean
  /** Of a list; null: anything. */
  items: ValueType | null
}

const NO_MEMBERS: ReadonlyMap<string, ValueType> = new Map()
export const ANYTHING: ValueType = { kinds: null, members: NO_MEMBERS, isClosed: false, items: null }

export const ofKind = (kind: Kind): ValueType => ({ ...ANYTHING, kinds: new Set([kind]) })

export const mapOf = (members: Record<string, ValueType>): ValueType => ({
  ...ofKind('map'),
  members: new Map(Object.entries(members)),
})

/** Whether a value of this type may be of one of these kinds. */
export const mayBe = ({ kinds }: ValueType, ...wanted: readonly Kind[]): boolean =>
  kinds === null || wanted.some((kind) => kinds.has(kind))

/** What is one of two. */
export function eitherOf(a: ValueType, b: ValueType): ValueType {
  if (a === b) return a
  return { ...ANYTHING, kinds: a.kinds && b.kinds ? new Set([...a.kinds, ...b.kinds]) : null }
}

const KINDS_OF: Record<string, Kind> = {
  null: 'null',
  boolean: 'bool',
  number: 'number',
  integer: 'number',
  string: 'string',
  array: 'list',
  object: 'map',
}

export function kindOfJson(value: Json): Kind {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'list'
  if (typeof value === 'boolean') return 'bool'
  return typeof value === 'object' ? 'map' : typeof value === 'number' ? 'number' : 'string'
}

/**
 * The type of what fits a JSON Schema. All keywords of a schema hold together, so those that are not looked at (references,
 * combinations, patterns) can only make it narrower than it is taken to be here.
 */
export function typeOfSchema(schema: Json | undefined): ValueType {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) return ANYTHING
  const members = new Map(
    isObject(schema['properties'])
      ? Object.entries(schema['properties']).map(([name, member]) => [name, typeOfSchema(member)] as const)
      : [],
  )
  const isClosed = schema['additionalProperties'] === false && schema['patternProperties'] === undefined
  // What `prefixItems` says holds for the first of them alone.
  const items = schema['prefixItems'] === undefined && isObject(schema['items']) ? typeOfSchema(schema['items']) : null
  return { kinds: kindsOf(schema), members, isClosed, items }
}

function kindsOf(schema: JsonObject): ReadonlySet<Kind> | null {
  const { type, enum: listed, const: only, nullable } = schema
  const named = (Array.isArray(type) ? type : [type]).map((name) => KINDS_OF[String(name)])
  const byType =
    type === undefined || named.includes(undefined) ? null : new Set(named.filter((kind) => kind !== undefined))
  if (byType && nullable === true) byType.add('null')
  const values = only !== undefined ? [only] : Array.isArray(listed) ? listed : null
  if (values === null) return byType
  const byValue = new Set(values.map(kindOfJson))
  const both = byType === null ? byValue : new Set([...byValue].filter((kind) => byType.has(kind)))
  // Nothing fits such a schema; then nothing is said of what reads it either.
  return both.size === 0 ? null : both
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const NAMES: Record<Kind, string> = {
  null: 'null',
  bool: 'true or false',
  number: 'a number',
  string: 'a string',
  list: 'a list',
  map: 'a map',
}

/** Such as `a string or null`. */
export const describeType = ({ kinds }: ValueType): string =>
  kinds === null ? 'anything' : [...kinds].map((kind) => NAMES[kind]).join(' or ')
