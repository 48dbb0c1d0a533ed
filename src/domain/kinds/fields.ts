import { z } from 'zod'

/** One member that a schema takes, as the reference tells of it. */
export interface Field {
  /** `spec.steps[].retry.max`; `*` is any name. */
  path: string
  type: string
  isRequired: boolean
  /** What counts when it is left out; undefined: nothing. */
  fallback: unknown
  limits: string[]
  /** Null: the schema does not say. */
  description: string | null
}

type Schema = z.core.$ZodType

/** Every member of an object's schema, those of its members behind them. Read from the schema, which is their one source. */
export function fieldsOf(schema: z.ZodType): Field[] {
  return childrenOf(schema, '')
}

function childrenOf(schema: Schema, path: string): Field[] {
  const at = bareOf(schema).schema
  if (at instanceof z.ZodObject) {
    const members = Object.entries(at.shape as Record<string, Schema>)
    return members.flatMap(([name, member]) => {
      const own = path === '' ? name : `${path}.${name}`
      return [fieldOf(member, own), ...childrenOf(member, own)]
    })
  }
  if (at instanceof z.ZodArray) return childrenOf(at.element, `${path}[]`)
  if (at instanceof z.ZodRecord) return childrenOf(at.valueType, `${path}.*`)
  if (at instanceof z.ZodUnion) return at.options.flatMap((option) => childrenOf(option, path))
  return []
}

function fieldOf(schema: Schema, path: string): Field {
  const { schema: inner, isOptional, fallback, description } = bareOf(schema)
  return {
    path,
    type: typeOf(schema),
    isRequired: !isOptional,
    fallback,
    limits: limitsOf(inner),
    description,
  }
}

interface Bare {
  schema: Schema
  isOptional: boolean
  fallback: unknown
  title: string | null
  description: string | null
}

/** The schema behind what makes it optional, gives it a default or changes the value on the way, and what those say. */
function bareOf(schema: Schema): Bare {
  const bare: Bare = { schema, isOptional: false, fallback: undefined, title: null, description: null }
  for (let at = schema; ;) {
    const meta = z.globalRegistry.get(at)
    bare.schema = at
    bare.title ??= meta?.title ?? null
    bare.description ??= meta?.description ?? null
    if (at instanceof z.ZodOptional || at instanceof z.ZodDefault) bare.isOptional = true
    if (at instanceof z.ZodDefault) bare.fallback ??= at.def.defaultValue
    if (at instanceof z.ZodOptional || at instanceof z.ZodNullable || at instanceof z.ZodDefault) at = at.unwrap()
    else if (at instanceof z.ZodPipe) at = at.in instanceof z.ZodTransform ? at.out : at.in
    else return bare
  }
}

const OWN: Record<string, string> = { object: 'object', string: 'text', integer: 'whole number', number: 'number' }

function typeOf(schema: Schema): string {
  const { schema: at, title } = bareOf(schema)
  if (title !== null) return title
  if (at instanceof z.ZodString) return 'text'
  if (at instanceof z.ZodNumber) return at.format === 'safeint' ? 'whole number' : 'number'
  if (at instanceof z.ZodBoolean) return 'true or false'
  if (at instanceof z.ZodEnum) return at.options.map((option) => `\`${option}\``).join(', ')
  if (at instanceof z.ZodLiteral) return [...at.values].map((value) => `\`${String(value)}\``).join(', ')
  if (at instanceof z.ZodArray) return `list: ${typeOf(at.element)}`
  if (at instanceof z.ZodRecord) return `map: ${typeOf(at.valueType)}`
  if (at instanceof z.ZodUnion) return [...new Set(at.options.map(typeOf))].join(' or ')
  if (at instanceof z.ZodObject) return 'object'
  // A check of our own says its type beside it, for OpenAPI.
  return OWN[String(z.globalRegistry.get(at)?.['type'])] ?? 'any JSON'
}

function limitsOf(schema: Schema): string[] {
  const unit = schema instanceof z.ZodString ? ' characters' : schema instanceof z.ZodArray ? ' items' : ''
  // oxlint-disable-next-line no-underscore-dangle -- where Zod keeps what a check was given
  return (schema._zod.def.checks ?? []).flatMap(({ _zod: { def } }) => {
    const check = def as { check: string; minimum?: number; maximum?: number; value?: number; inclusive?: boolean }
    if (check.minimum !== undefined) return check.minimum > 1 ? [`at least ${check.minimum}${unit}`] : ['not empty']
    if (check.maximum !== undefined) return [`at most ${text(check.maximum)}${unit}`]
    if (check.check === 'greater_than') return [`${check.inclusive ? 'from' : 'more than'} ${text(check.value)}`]
    if (check.check === 'less_than') return [`${check.inclusive ? 'to' : 'less than'} ${text(check.value)}`]
    return []
  })
}

const text = (value: number | undefined): string => (value ?? 0).toLocaleString('en')
