export type { Backend, CommandEnd, CommandHandle, CommandSpec, OutputSegment } from './backend.ts'
export { createProcessBackend, type ProcessBackendOptions } from './process/index.ts'
export { type Act, createScriptedBackend, type ScriptedBackend, type ScriptedBackendOptions } from './scripted.ts'
