import type { z } from 'zod'
import type { Json, JsonObject } from '../../base/json.ts'
import { isObject, type Placed, problemsOfIssue } from '../placed-problem.ts'
import type { Definition } from '../workflow.ts'
import { envelopeOf } from './envelope.ts'
import { keysOfSchema } from './known-keys.ts'

/** One thing that is known of a resource, with since when. */
export interface Condition {
  type: string
  status: 'true' | 'false' | 'unknown'
  reason: string
  message: string
}

export interface KindStatus {
  phase: string
  conditions: Condition[]
}

/** Of a budget: how much of its window is used at the moment. */
export interface Usage {
  tokens: number
  /** Set aside for calls that are not answered yet. */
  heldTokens: number
  /** In the currency of its limit; null: it limits none. */
  money: number | null
  heldMoney: number | null
  /** What is spent of the limit that is used most, from 0. */
  share: number
  /** Steps that wait for it. */
  waiting: number
  /** When its window began, and when it ends; null: a rolling one, which moves all the time. */
  from: string
  until: string | null
}

/** A column of `orrery get` beside name and age. */
export interface KindColumn {
  title: string
  align?: 'left' | 'right'
  /** Shown with `-o wide` alone. */
  wide?: true
  text(resource: {
    spec: JsonObject
    status: { phase: string; usage?: Usage | undefined }
    metadata: { generation: number }
  }): string
}

/** Everything that is known of a document after the text: what is wrong with it, and what a workflow compiles to. */
export interface KindCheck {
  problems: Placed[]
  definition?: Definition | null
}

/** A kind of resource: one row of the registry says all there is to say about it. */
export interface Kind<K extends string = string> {
  kind: K
  plural: string
  /** Other names that a command takes, beside the kind's own in lower case. */
  shortNames: readonly string[]
  /** What it is, in a sentence. */
  summary: string
  /** Strict schema of the whole document. */
  schema: z.ZodType
  columns: readonly KindColumn[]
  /** Its specs are kept as numbered versions. */
  isVersioned: boolean
  /** Its spec holds values that are written and never read: they are sealed before they are stored. */
  isSealed: boolean
  /** Schema and cross-checks. The later checks run on whatever is well-formed. */
  check(value: Json): KindCheck
  /** What the server says of a spec that was accepted. */
  statusOf(spec: JsonObject): KindStatus
  /** The spec as everybody may see it; for a sealed kind without its values. */
  present(spec: JsonObject): JsonObject
}

interface KindRow<K extends string> extends Pick<
  Kind<K>,
  'kind' | 'plural' | 'shortNames' | 'summary' | 'columns' | 'statusOf'
> {
  spec: z.ZodType
  /** What the schema cannot say; paths begin with `spec`. Name and namespace are null where the document has none. */
  crossCheck?(spec: JsonObject, name: string | null, namespace: string | null): Placed[]
  /** Instead of schema and cross-check, for a kind that has a compiler. */
  check?(value: Json): KindCheck
  isVersioned?: true
  isSealed?: true
  present?(spec: JsonObject): JsonObject
}

export function defineKind<const K extends string>(row: KindRow<K>): Kind<K> {
  const schema = envelopeOf(row.kind, row.spec)
  const knownKeysAt = (path: readonly PropertyKey[]) => keysOfSchema(schema, path)
  return {
    kind: row.kind,
    plural: row.plural,
    shortNames: row.shortNames,
    summary: row.summary,
    schema,
    columns: row.columns,
    isVersioned: row.isVersioned ?? false,
    isSealed: row.isSealed ?? false,
    statusOf: row.statusOf,
    present: row.present ?? ((spec) => spec),
    check:
      row.check ??
      ((value) => {
        const parsed = schema.safeParse(value, { reportInput: true })
        const spec = isObject(value) && isObject(value['spec']) ? value['spec'] : {}
        const shape = parsed.success ? [] : parsed.error.issues.flatMap((issue) => problemsOfIssue(issue, knownKeysAt))
        return {
          problems: [...shape, ...(row.crossCheck?.(spec, nameIn(value, 'name'), nameIn(value, 'namespace')) ?? [])],
        }
      }),
  }
}

function nameIn(value: Json, key: 'name' | 'namespace'): string | null {
  const metadata = isObject(value) ? value['metadata'] : null
  const name = isObject(metadata) ? metadata[key] : null
  return typeof name === 'string' ? name : null
}

/** The condition of a kind that is of use as soon as it was accepted. */
export const READY: Condition = { type: 'ready', status: 'true', reason: 'accepted', message: 'checked and stored' }
