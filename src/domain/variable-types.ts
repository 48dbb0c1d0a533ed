import type { Json, JsonObject } from '../base/json.ts'
import type { VariableTypes } from './infer-type.ts'
import { ANYTHING, mapOf, ofKind, typeOfSchema, type ValueType } from './value-type.ts'

const TEXT = ofKind('string')
/** What a route gives. */
const ROUTED: ValueType = { ...mapOf({ route: TEXT, reason: TEXT }), isClosed: true }
const RUN = mapOf({ id: TEXT, workflow: TEXT, namespace: TEXT })

/** What the expressions of a workflow may read: its inputs by their schema, what steps give by their `outputSchema`. Before its first turn a step gives null. The workflow may be wrong. */
export function variableTypes(
  inputs: Json | undefined,
  steps: readonly Json[],
  takesTurns: (step: JsonObject) => boolean = () => false,
): VariableTypes {
  const outputs: Record<string, ValueType> = {}
  for (const step of steps) {
    if (!isObject(step) || typeof step['name'] !== 'string') continue
    const { name } = step
    // Of two steps with one name either may be meant.
    outputs[name] = Object.hasOwn(outputs, name)
      ? ANYTHING
      : mapOf({ output: takesTurns(step) ? ANYTHING : outputOf(step), state: TEXT })
  }
  return {
    inputs: isObject(inputs) ? { ...typeOfSchema(inputs), kinds: ofKind('map').kinds } : ofKind('map'),
    steps: mapOf(outputs),
    run: RUN,
    index: ofKind('number'),
  }
}

/** A spread step gives the list of what its activations gave. */
function outputOf(step: Record<string, Json>): ValueType {
  if (step['forEach'] !== undefined || step['matrix'] !== undefined) return ofKind('list')
  if (step['route'] !== undefined) return ROUTED
  return typeOfSchema(step['outputSchema'])
}

const isObject = (value: Json | undefined): value is Record<string, Json> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
