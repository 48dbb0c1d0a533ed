import { AsyncLocalStorage } from 'node:async_hooks'
import type { LogFields } from './log.ts'
import type { TraceContext } from './trace.ts'

/** What is being served or worked on: a request, or an attempt. Whatever is logged meanwhile carries its fields. */
export interface Scope {
  readonly logFields: LogFields
  /** The span of this scope, when its trace began outside of the product; null when it is the product's own. */
  readonly foreignTrace: TraceContext | null
  /** The span of this scope. */
  readonly trace: TraceContext
  /** The scope makes this run: unless it came with a trace, both are of the run's own. */
  made?(runId: string): void
}

// Carried by the runtime and not handed from function to function: a line deep in the store or in a backend then has the ids
// too. It costs a microsecond a request (docs/decisions/0006).
const storage = new AsyncLocalStorage<Scope | undefined>()

/** Runs `work` and all that it starts within a scope. */
export const inScope = <T>(scope: Scope, work: () => T): T => storage.run(scope, work)

/** For what serves many at once, or outlives whoever came first: a shared flush, a connection. */
export const outOfScope = <T>(work: () => T): T => storage.run(undefined, work)

export const currentScope = (): Scope | undefined => storage.getStore()
