import type { Json } from '../../base/json.ts'
import { type Problem } from '../../domain/failure.ts'
import { checkSchema } from '../../domain/inputs.ts'
import type { JsonObject } from '../../base/json.ts'

/** What an answer is worth. */
export type Checked =
  | { kind: 'fits'; output: Json }
  | { kind: 'empty' }
  | { kind: 'not_json'; problem: string }
  | { kind: 'breaks_schema'; problems: Problem[] }

/** Pure: an answer as the output of the step. Without a schema it is its text. */
export function checkAnswer(text: string, schema: JsonObject | null): Checked {
  if (text.trim() === '') return { kind: 'empty' }
  if (schema === null) return { kind: 'fits', output: { text } }
  const found = jsonIn(text)
  if (found.kind === 'not_json') return found
  const problems = checkSchema(found.value, schema)
  return problems.length === 0 ? { kind: 'fits', output: found.value } : { kind: 'breaks_schema', problems }
}

const FENCED = /^\s*```(?:json)?[ \t]*\r?\n([\s\S]*?)\r?\n?```\s*$/

/** The JSON of a text that is nothing but JSON, or one fenced block of it: models write that whatever they are told. */
export function jsonIn(text: string): { kind: 'json'; value: Json } | { kind: 'not_json'; problem: string } {
  try {
    return { kind: 'json', value: JSON.parse(FENCED.exec(text)?.[1] ?? text) as Json } // JSON.parse gives Json or throws
  } catch (error) {
    return { kind: 'not_json', problem: error instanceof Error ? error.message : String(error) }
  }
}
