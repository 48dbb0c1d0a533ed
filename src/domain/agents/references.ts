import type { AgentSpec } from '../kinds/agent.ts'
import type { ToolSpec } from '../kinds/tool.ts'
import { type Definition, isOfAgents } from '../workflow.ts'

/** Kinds that agents, tools and their steps name. */
export type ReferredKind =
  | 'Agent'
  | 'Tool'
  | 'McpServer'
  | 'Memory'
  | 'Instructions'
  | 'ModelEndpoint'
  | 'Role'
  | 'Workflow'

/** One name, with who names it where: `step write` in `agent`, `agent editor` in `delegates`. */
export interface Reference {
  kind: ReferredKind
  name: string
  by: string
  field: string
}

/** What the agent, tool and route steps of a workflow name; empty for most workflows. */
export function referencesOfWorkflow({ nodes }: Pick<Definition, 'nodes'>): Reference[] {
  return nodes.flatMap((node): Reference[] => {
    if (!isOfAgents(node)) return []
    const by = `step ${node.name}`
    switch (node.kind) {
      case 'agent':
        return [{ kind: 'Agent', name: node.agent, by, field: 'agent' }]
      case 'tool':
        return [{ kind: 'Tool', name: node.tool, by, field: 'tool' }]
      case 'route':
        return [{ kind: 'ModelEndpoint', name: node.model, by, field: 'route.model' }]
    }
  })
}

/** All that an agent names. */
export function referencesOfAgent(agent: string, spec: AgentSpec): Reference[] {
  const by = `agent ${agent}`
  const all = (kind: ReferredKind, field: string, names: readonly string[] = []): Reference[] =>
    names.map((name) => ({ kind, name, by, field }))
  return [
    ...all('ModelEndpoint', 'model', [spec.model]),
    ...all('ModelEndpoint', 'fallbackModels', spec.fallbackModels),
    ...all('ModelEndpoint', 'check.model', spec.check?.model === undefined ? [] : [spec.check.model]),
    ...all(
      'Instructions',
      'instructions',
      spec.instructions.flatMap((part) => ('ref' in part ? [part.ref] : [])),
    ),
    ...all('Tool', 'tools', spec.tools),
    ...all(
      'McpServer',
      'mcpServers',
      spec.mcpServers?.map(({ name }) => name),
    ),
    ...all('Agent', 'delegates', spec.delegates),
    ...all('Agent', 'handoffs', spec.handoffs),
    ...all(
      'Memory',
      'memories',
      spec.memories?.map(({ name }) => name),
    ),
    ...all('Role', 'roles', spec.roles),
  ]
}

/** What a tool runs below, or calls it through. A workflow is named as `workflow` steps name it. */
export function referencesOfTool(tool: string, spec: ToolSpec): Reference[] {
  const by = `tool ${tool}`
  const { agent, workflow, mcp } = spec
  return [
    ...(agent === undefined ? [] : [{ kind: 'Agent' as const, name: agent, by, field: 'agent' }]),
    ...(mcp === undefined ? [] : [{ kind: 'McpServer' as const, name: mcp.server, by, field: 'mcp.server' }]),
    ...(workflow === undefined ? [] : [{ kind: 'Workflow' as const, name: workflow, by, field: 'workflow' }]),
  ]
}
