export type { ApiDeps, ApiEnv, MetricsSource } from './context.ts'
export { type Api, createApi } from './create-api.ts'
export { type ServeOptions, serve, type Serving } from './serve.ts'
