export type { EngineDeps, EngineTimes } from './context.ts'
export { createEngine, DEFAULT_TIMES, type RunningEngine } from './create-engine.ts'
export type { Caller, CreateOutcome, Engine, NewRun } from './engine.ts'
