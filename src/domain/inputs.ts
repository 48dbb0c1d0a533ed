import type { Json, JsonObject } from '../base/json.ts'
import { Failure, failureOfProblems, type Problem } from './failure.ts'
import { validateJson } from './json-schema.ts'
import { LIMITS } from './limits.ts'
import type { Definition } from './workflow.ts'

/**
 * The inputs of a run with the schema's defaults filled in; what was passed stays untouched. Throws `input.invalid` with every
 * problem and its path.
 */
export function checkInputs(definition: Pick<Definition, 'inputs' | 'name'>, inputs: unknown): JsonObject {
  const what = `checking the inputs of workflow ${definition.name}`
  if (!isObject(inputs)) throw new Failure('input.invalid', `${what}: inputs are an object, such as {"repo": "."}`)
  if (!isShallow(inputs)) throw new Failure('input.invalid', `${what}: nested deeper than ${LIMITS.nestingMax}`)
  const filled = structuredClone(inputs)
  if (definition.inputs === null) return filled
  const problems = validateJson(filled, definition.inputs, { mode: 'filling', code: 'input.invalid', root: 'inputs' })
  if (problems.length > 0) throw failureOfProblems(problems, what)
  return filled
}

/** Problems of a step's output against its `outputSchema`; empty when it fits. */
export function checkSchema(value: Json, schema: JsonObject): Problem[] {
  return validateJson(value, schema, { mode: 'plain', code: 'output.schema_violation', root: 'output' })
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function isShallow(value: Json): boolean {
  const work: { value: Json; depth: number }[] = [{ value, depth: 0 }]
  for (let next = work.pop(); next; next = work.pop()) {
    const { value: here, depth } = next
    if (depth > LIMITS.nestingMax) return false
    if (typeof here === 'object' && here !== null)
      for (const child of Object.values(here)) work.push({ value: child, depth: depth + 1 })
  }
  return true
}
