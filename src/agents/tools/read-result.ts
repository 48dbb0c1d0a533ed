import { z } from 'zod'
import type { Json, JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { TryResult } from './tool-driver.ts'

/** What a tool may say of itself; all else that could be in a result is ours to say. */
const OWN_CODES = ['tool.failed', 'tool.invalid_input', 'tool.timeout'] as const

const resultSchema = z.discriminatedUnion('ok', [
  z.strictObject({ ok: z.literal(true), output: z.custom<Json>((value) => value !== undefined) }),
  z.strictObject({
    ok: z.literal(false),
    code: z.enum(OWN_CODES).default('tool.failed'),
    reason: z.string().min(1),
    retryable: z.boolean().default(false),
    evidence: z.custom<JsonObject>(isObject).optional(),
  }),
])

/** The result that a tool gave as JSON. Throws `tool.invalid_output` where it is none. */
export function readResult(value: Json, what: string): TryResult {
  const parsed = resultSchema.safeParse(value)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new Failure(
      'tool.invalid_output',
      `${what} is no result: ${issue?.path.join('.')} ${issue?.message}`.trim(),
      {
        remediation: 'Answer {"ok": true, "output": …} or {"ok": false, "reason": "…", "retryable": false}.',
      },
    )
  }
  if (parsed.data.ok) return parsed.data
  const { evidence, ...failed } = parsed.data
  const fits = evidence !== undefined && Buffer.byteLength(JSON.stringify(evidence)) <= LIMITS.evidenceBytes
  return { ...failed, ...(fits ? { evidence } : {}) }
}
