export type { ApiDeps, ApiEnv, MetricsSource } from './context.ts'
export { type Api, createApi } from './create-api.ts'
export { findPortHolder } from './port-holder.ts'
export { type ServeOptions, serve, type Serving } from './serve.ts'
