import type { Json, JsonObject, Redactor } from '../base/index.ts'
import { failureRecord, type FailureRecord } from '../domain/failure.ts'
import { checkSchema } from '../domain/inputs.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Attempt, Outcome } from './attempt.ts'
import { boundText, toJson } from './to-json.ts'

export const failed = (failure: FailureRecord): Outcome => ({ kind: 'failed', failure })

export const describe = ({ assignment }: Attempt): string => `step ${assignment.name} of ${assignment.runId}`

/** An output as it will be reported, or why it cannot be. */
export function outputOutcome(attempt: Attempt, output: unknown): Outcome {
  const json = toJson(output)
  if (json.kind === 'not_json') {
    const evidence = { path: json.path, problem: boundText(json.problem, 1024) }
    return failed(failureRecord('output.not_json', `taking the output of ${describe(attempt)}`, { evidence }))
  }
  if (attempt.redactor) {
    json.value = attempt.redactor.json(json.value)
    json.bytesMax = Buffer.byteLength(JSON.stringify(json.value))
  }
  if (json.bytesMax > LIMITS.outputBytes) {
    const bytes = Buffer.byteLength(JSON.stringify(json.value))
    if (bytes > LIMITS.outputBytes) return failed(tooLarge(attempt, bytes))
  }
  return { kind: 'succeeded', output: json.value, bytes: json.bytesMax }
}

export function tooLarge(attempt: Attempt, bytes: number): FailureRecord {
  return failureRecord('output.too_large', `taking the output of ${describe(attempt)}`, {
    evidence: { bytes, limit: LIMITS.outputBytes },
  })
}

/** Holds an output against the step's own schema. */
export function checkOutput(attempt: Attempt, outcome: Outcome & { kind: 'succeeded' }): Outcome {
  const schema = attempt.assignment.outputSchema
  if (schema === null) return outcome
  const problems = checkSchema(outcome.output, schema)
  if (problems.length === 0) return outcome
  const shown = problems.slice(0, 50).map(({ path, message }) => ({ path, message }))
  return schemaViolation(attempt, shown, outcome.output)
}

export function schemaViolation(attempt: Attempt, problems: JsonObject[], output: Json): Outcome {
  const text = JSON.stringify(output)
  const raw = text.length <= LIMITS.evidenceBytes / 4 ? output : boundText(text, LIMITS.evidenceBytes / 4)
  return failed(
    failureRecord('output.schema_violation', `checking the output of ${describe(attempt)}`, {
      evidence: { problems, output: raw },
    }),
  )
}

/** The failure without secrets. Its code is left as it is: a value that is a word of the catalogue must not change what happened. */
export function redactFailure(redactor: Redactor, failure: FailureRecord): FailureRecord {
  const { cause, evidence } = failure
  const cleanCause =
    cause && ('code' in cause ? redactFailure(redactor, cause) : { message: redactor.text(cause.message) })
  return {
    ...failure,
    message: redactor.text(failure.message),
    remediation: redactor.text(failure.remediation),
    ...(evidence ? { evidence: redactor.json(evidence) } : {}),
    ...(cleanCause ? { cause: cleanCause } : {}),
  }
}
