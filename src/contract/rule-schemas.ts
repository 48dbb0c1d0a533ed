import { z } from 'zod'
import { OPERATION_CLASSES } from '../domain/agents/verdict.ts'

const name = z.string().min(1).max(256)

/** POST /v1/namespaces/{namespace}/agents/{agent}:check */
export const CheckAgentSchema = z.strictObject({
  tool: name.meta({ description: 'As the agent calls it; `SERVER.TOOL` of an MCP server.' }),
  operation: z
    .enum(OPERATION_CLASSES)
    .optional()
    .meta({ description: 'Class of the call; left out, the one that the Tool of this name says.' }),
  input: z.record(z.string(), z.json()).optional().meta({ description: 'What it would be called with.' }),
  workflow: name.optional().meta({ description: 'In a run of this workflow; left out, of none.' }),
  labels: z.record(z.string(), z.string()).optional().meta({ description: 'Labels of that run.' }),
  model: name.optional().meta({ description: 'May it ask this endpoint, besides?' }),
})

const LookedSchema = z
  .array(
    z.object({
      rule: z.string().meta({ description: '`policy/NAME`, `role/NAME`, `agent/NAME` or `default`.' }),
      part: z.string().nullable().meta({ description: 'Which part of it speaks; null: none does.' }),
      says: z.enum(['allow', 'deny', 'approval', 'nothing', 'not_applied']),
      why: z.string(),
    }),
  )
  .meta({ description: 'Every rule that was looked at, in the order of precedence.' })

export const AgentCheckSchema = z
  .object({
    agent: z.string(),
    tool: z.string(),
    operation: z.enum(OPERATION_CLASSES),
    verdict: z.enum(['allow', 'deny', 'approval']),
    rule: z.string().meta({ description: 'The rule that decided.' }),
    code: z.string().nullable().meta({ description: 'Of the failure that a denied call ends with.' }),
    reason: z.string().nullable(),
    remediation: z.string().nullable().meta({ description: 'What would let it pass.' }),
    approvers: z
      .array(z.string())
      .nullable()
      .meta({ description: 'Who may decide; null: all who may decide approvals.' }),
    expiresMs: z.int().nullable(),
    looked: LookedSchema,
    model: z
      .object({
        endpoint: z.string(),
        allowed: z.boolean(),
        rule: z.string().nullable(),
        reason: z.string().nullable(),
        remediation: z.string().nullable(),
        looked: LookedSchema,
      })
      .nullable()
      .meta({ description: 'Null: no model was asked about.' }),
  })
  .meta({ id: 'AgentCheck' })
