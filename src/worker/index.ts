export { type AgentRuntime, createAgentRuntime } from './agent-runtime.ts'
export type { WorkerEnd } from './exchange-loop.ts'
export { type HeartbeatHandle, loopHeartbeats, type StartHeartbeats, threadHeartbeats } from './heartbeats.ts'
export { createWorker, type Worker, type WorkerDeps, type WorkerStats } from './worker.ts'
