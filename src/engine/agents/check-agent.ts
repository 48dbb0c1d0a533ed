import type { AgentCheck, CheckAgentRequest } from '../../contract/api-types.ts'
import { isUnconfined, ownRulesOf, targetOf } from '../../domain/agents/asked-call.ts'
import { type OperationClass, OPERATION_CLASSES } from '../../domain/agents/verdict.ts'
import { Failure } from '../../domain/failure.ts'
import { readAgent } from '../../domain/kinds/agent.ts'
import { readMcpServer } from '../../domain/kinds/mcp-server.ts'
import { readTool } from '../../domain/kinds/tool.ts'
import { plainNamespace } from '../../domain/tenancy.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import type { EngineContext } from '../context.ts'
import type { Caller } from '../engine.ts'
import type { ResourceEngine } from '../resources/resource-engine.ts'
import type { RuleGate } from './rule-gate.ts'

/** Says what the rules would say of a call, by what is stored now: the same functions over the same rows as when it is made. Nothing is written. */
export async function checkAgent(
  parts: { ctx: Pick<EngineContext, 'db'>; gate: RuleGate; resources: ResourceEngine },
  caller: Caller,
  at: { namespace: string; name: string },
  ask: CheckAgentRequest,
): Promise<AgentCheck> {
  const { db } = parts.ctx
  const spec = readAgent((await parts.resources.get(caller, { kind: 'Agent', ...at })).spec)
  const { tool } = ask
  const { namespace } = at
  const rows = await findResources(db, [
    { kind: 'Tool', namespace, name: tool },
    ...(spec.mcpServers ?? []).map(({ name }) => ({ kind: 'McpServer', namespace, name })),
  ])
  const toolRow = rows.find(({ kind }) => kind === 'Tool')
  const known = toolRow ? readTool(toolRow.spec) : null
  const bound = {
    tools: known ? { [tool]: known } : {},
    mcpServers: Object.fromEntries(
      rows.filter(({ kind }) => kind === 'McpServer').map((row) => [row.name, readMcpServer(row.spec)]),
    ),
  }
  const operation: OperationClass | undefined = ask.operation ?? known?.operation
  if (operation === undefined)
    throw new Failure('request.invalid', `asking what ${at.name} may do with ${tool}`, {
      evidence: { path: 'operation', operations: [...OPERATION_CLASSES] },
      remediation: `There is no Tool ${tool} in ${plainNamespace(at.namespace)} that says its class: give one of ${OPERATION_CLASSES.join(', ')}.`,
    })
  const run = {
    namespace: at.namespace,
    workflow: ask.workflow ?? '',
    runId: null,
    agent: at.name,
    labels: ask.labels ?? {},
  }
  const call = {
    ...run,
    tool,
    operation,
    input: ask.input ?? {},
    own: ownRulesOf(spec, tool),
    target: targetOf(bound, spec, tool),
    isUnconfined: isUnconfined(bound, tool),
  }
  const [judged] = await parts.gate.judge(db, [call])
  const [model] = ask.model === undefined ? [] : await parts.gate.judgeModels(db, [{ ...run, endpoint: ask.model }])
  if (!judged) throw new Error('the gate gave no answer')
  const { verdict, looked } = judged
  const evidence = model?.failure?.evidence
  return {
    agent: at.name,
    tool,
    operation,
    verdict: verdict.verdict,
    rule: verdict.rule,
    code: verdict.verdict === 'deny' ? verdict.code : null,
    reason: verdict.verdict === 'deny' ? verdict.reason : null,
    remediation: verdict.verdict === 'deny' ? verdict.remediation : null,
    approvers: verdict.verdict === 'approval' && verdict.approvers ? [...verdict.approvers] : null,
    expiresMs: verdict.verdict === 'approval' ? verdict.expiresMs : null,
    looked,
    model:
      model && ask.model !== undefined
        ? {
            endpoint: ask.model,
            allowed: model.failure === null,
            rule: textOf(evidence?.['rule']),
            reason: textOf(evidence?.['reason']),
            remediation: model.failure?.remediation ?? null,
            looked: model.looked,
          }
        : null,
  }
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)
