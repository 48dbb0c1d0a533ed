import { z } from 'zod'
import type { JsonObject } from '../base/json.ts'
import { type FailureCode, isFailureCode } from '../domain/failures.ts'
import { isMembers } from './hot-messages.ts'

const code = z
  .custom<FailureCode>((v) => typeof v === 'string' && isFailureCode(v), 'must be a code of the catalogue')
  .meta({ type: 'string', example: 'step.exit_nonzero' })
const jsonObject = z.custom<JsonObject>(isMembers, 'must be an object').meta({ type: 'object' })

export const FailureRecordSchema = z
  .strictObject({
    code,
    message: z.string(),
    get cause() {
      return z.union([FailureRecordSchema, z.strictObject({ message: z.string() })]).optional()
    },
    evidence: jsonObject.optional(),
    remediation: z.string(),
    retryable: z.boolean(),
  })
  .meta({ id: 'FailureRecord' })
