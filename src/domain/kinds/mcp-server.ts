import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { defineKind, READY } from './kind.ts'

export const mcpServerSpecSchema = z.strictObject({
  transport: z.enum(['stdio', 'http']).describe('How it is spoken to.'),
})

/** A spec as runs use it: defaults filled in, durations in milliseconds. */
export type McpServerSpec = z.infer<typeof mcpServerSpecSchema>

/** Of a spec that was checked when it was stored. */
export const readMcpServer = (spec: JsonObject): McpServerSpec => mcpServerSpecSchema.parse(spec)

export const mcpServerKind = defineKind({
  kind: 'McpServer',
  plural: 'mcpservers',
  shortNames: ['mcp'],
  summary: 'A server of the Model Context Protocol, whose tools agents may call.',
  spec: mcpServerSpecSchema,
  columns: [],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})
