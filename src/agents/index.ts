export { createEgress, type Egress, type Resolve, withinHosts } from './egress.ts'
export { createModelGateway, type ModelGateway } from './gateway/create-gateway.ts'
export type { CallContext, GatewayDeps, ModelSource } from './gateway/model-source.ts'
export type { Embedded, EmbedRequest } from './gateway/embed.ts'
export { ANSWER_TOKENS_ASSUMED, estimateRequest, estimateTokens } from './gateway/estimate-tokens.ts'
export type { KnownModel } from './gateway/judge-error.ts'
export { resultOf } from './gateway/result-of.ts'
export { createToolRunner, type ToolRunner, type ToolRunnerDeps } from './tools/create-tool-runner.ts'
export type { DriverEnv, ToolDriver, ToolEnv, TryResult } from './tools/tool-driver.ts'
export {
  type AgentHost,
  type Appended,
  type HostCall,
  type LiveContext,
  type ModelAt,
  type ShownEvent,
  type TurnsEnd,
} from './turns/agent-host.ts'
export { runTurns, type TurnsDeps, type TurnsStep } from './turns/run-turns.ts'
export { tracedHost } from './turns/traced-host.ts'
export { entryOf, type TableEntry } from './turns/tool-table.ts'
export { type McpClients, createMcpClients } from './mcp/mcp-clients.ts'
export { mcpDriver } from './mcp/mcp-driver.ts'
export { offerMcpServers } from './mcp/offer-servers.ts'
export { createDataGuard, type DataGuard } from './turns/data-guard.ts'
export { NO_PROGRAMS, type ToolPrograms } from './tools/tool-programs.ts'
