import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { defineKind, READY } from './kind.ts'

export const instructionsSpecSchema = z.strictObject({
  text: z.string().min(1).max(LIMITS.instructionsChars).describe('What agents that refer to it are told.'),
})
export type InstructionsSpec = z.infer<typeof instructionsSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readInstructions = (spec: JsonObject): InstructionsSpec => instructionsSpecSchema.parse(spec)

export const instructionsKind = defineKind({
  kind: 'Instructions',
  plural: 'instructions',
  shortNames: ['instr'],
  summary: 'A text that agents share as part of what they are told.',
  spec: instructionsSpecSchema,
  columns: [
    {
      title: 'CHARS',
      align: 'right',
      text: ({ spec }) => String(typeof spec['text'] === 'string' ? spec['text'].length : 0),
    },
  ],
  statusOf: ({ text }) => {
    const chars = typeof text === 'string' ? text.length : 0
    const isLong = chars > LIMITS.instructionsChars / 2
    const message = `it has ${chars} characters, which every turn of its agents is asked with; the limit of an agent is ${LIMITS.instructionsChars}`
    return { phase: 'ready', conditions: [isLong ? { ...READY, reason: 'long', message } : READY] }
  },
})
