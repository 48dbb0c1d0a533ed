import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { defineKind, READY } from './kind.ts'

export const memorySpecSchema = z.strictObject({
  scope: z.enum(['run', 'agent', 'shared']).describe('Who shares its entries.'),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type MemorySpec = z.infer<typeof memorySpecSchema>

/** Of a spec that was checked when it was stored. */
export const readMemory = (spec: JsonObject): MemorySpec => memorySpecSchema.parse(spec)

export const memoryKind = defineKind({
  kind: 'Memory',
  plural: 'memories',
  shortNames: ['mem'],
  summary: 'What agents remember.',
  spec: memorySpecSchema,
  columns: [],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
