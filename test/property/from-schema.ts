import fc from 'fast-check'

/** The part of JSON Schema that the OpenAPI document uses. */
export interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  propertyNames?: Schema
  items?: Schema | boolean
  minItems?: number
  maxItems?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
}

const LIST_MAX = 4
const TEXT_MAX = 24
const DEPTH_MAX = 6

/** Values that fit a schema, as far as its types say; `named` gives values for properties whose names mean something. */
export function fromSchema(
  schema: Schema,
  defs: Record<string, Schema>,
  named: (name: string) => fc.Arbitrary<unknown> | null,
  depth = 0,
): fc.Arbitrary<unknown> {
  const go = (inner: Schema) => fromSchema(inner, defs, named, depth + 1)
  if (depth > DEPTH_MAX) return fc.constant(null)
  if (schema.$ref !== undefined) {
    const target = defs[schema.$ref.split('/').at(-1) ?? '']
    if (!target) throw new Error(`${schema.$ref} is not in the document`)
    return go(target)
  }
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return fc.oneof(...choices.map(go))
  if (schema.allOf) return fc.tuple(...schema.allOf.map(go)).map((parts) => Object.assign({}, ...parts) as unknown)
  const types = Array.isArray(schema.type) ? schema.type : schema.type === undefined ? [] : [schema.type]
  if (types.length > 1) return fc.oneof(...types.map((type) => go({ ...schema, type })))
  switch (types[0]) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
      return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1_000, 2 ** 31 - 1) })
    case 'number':
      return fc.integer({ min: Math.ceil(schema.minimum ?? 0), max: Math.min(schema.maximum ?? 100_000, 2 ** 31 - 1) })
    case 'string':
      return texts(schema)
    case 'array':
      return fc.array(typeof schema.items === 'object' ? go(schema.items) : fc.jsonValue({ maxDepth: 2 }), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? LIST_MAX, Math.max(LIST_MAX, schema.minItems ?? 0)),
      })
    case 'object':
      return objects(schema, go, named)
    default:
      return fc.jsonValue({ maxDepth: 3 })
  }
}

function texts(schema: Schema): fc.Arbitrary<string> {
  if (schema.format === 'date-time') return fc.date({ noInvalidDate: true }).map((date) => date.toISOString())
  const least = schema.minLength ?? 0
  if (schema.pattern === undefined) {
    return fc.string({ minLength: least, maxLength: Math.max(least, Math.min(schema.maxLength ?? TEXT_MAX, TEXT_MAX)) })
  }
  return fc.stringMatching(new RegExp(schema.pattern))
}

function objects(
  schema: Schema,
  go: (inner: Schema) => fc.Arbitrary<unknown>,
  named: (name: string) => fc.Arbitrary<unknown> | null,
): fc.Arbitrary<unknown> {
  const properties = Object.entries(schema.properties ?? {})
  const required = new Set(schema.required)
  const members = Object.fromEntries(
    properties.map(([name, inner]) => {
      const meant = named(name)
      return [name, meant ? fc.oneof({ weight: 3, arbitrary: meant }, { weight: 1, arbitrary: go(inner) }) : go(inner)]
    }),
  )
  const known = fc.record(members, {
    requiredKeys: properties.map(([name]) => name).filter((name) => required.has(name)),
  })
  const rest = schema.additionalProperties
  if (properties.length > 0 || rest === false) return known
  return fc.dictionary(
    fc.string({ minLength: 1, maxLength: 8 }),
    typeof rest === 'object' ? go(rest) : fc.jsonValue({ maxDepth: 2 }),
    { maxKeys: 3 },
  )
}

/** The same value with one thing wrong somewhere: a member gone, another kind of value, something that belongs nowhere. */
export function spoiled(value: unknown): fc.Arbitrary<unknown> {
  const wrong = fc.constantFrom<unknown>(null, -1, 0.5, 1e300, '', '\0', '\ud800', [], {}, 'x'.repeat(3_000), true)
  if (typeof value !== 'object' || value === null) return wrong
  if (Array.isArray(value))
    return fc.oneof(
      wrong,
      wrong.map((odd) => [...(value as unknown[]), odd]),
    )
  const names = Object.keys(value)
  if (names.length === 0)
    return fc.oneof(
      wrong,
      wrong.map((odd) => ({ unknown: odd })),
    )
  return fc.constantFrom(...names).chain((name) => {
    const member = (value as Record<string, unknown>)[name]
    const { [name]: _, ...without } = value as Record<string, unknown>
    return fc.oneof(
      fc.constant(without),
      wrong.map((odd) => ({ ...value, [name]: odd })),
      wrong.map((odd) => ({ ...value, unknown: odd })),
      typeof member === 'object' && member !== null
        ? spoiled(member).map((inner) => ({ ...value, [name]: inner }))
        : fc.constant(without),
    )
  })
}
