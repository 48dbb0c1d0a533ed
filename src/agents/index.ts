export { createEgress, type Egress, type Resolve } from './egress.ts'
export {
  type CallContext,
  createModelGateway,
  type GatewayDeps,
  type ModelGateway,
  type ModelSource,
} from './gateway/create-gateway.ts'
export type { KnownModel } from './gateway/judge-error.ts'
export { resultOf } from './gateway/result-of.ts'
export { createToolRunner, type ToolRunner, type ToolRunnerDeps } from './tools/create-tool-runner.ts'
export type { DriverEnv, ToolDriver, ToolEnv, TryResult } from './tools/tool-driver.ts'
