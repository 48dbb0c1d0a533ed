import type { z } from 'zod'
import type { KindName } from '../domain/kinds/registry.ts'
import type { Access } from '../domain/roles.ts'

/** What can be done with every kind; a route's id is the verb and the kind: `getWorkflow`. */
export type ResourceVerb = 'list' | 'listAll' | 'get' | 'put' | 'delete' | 'listVersions' | 'getVersion'

/** One route of the server as data. */
export interface RouteOf<Id extends string> {
  id: Id
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** `{name}` is one parameter; `:verb` may follow the last one. */
  path: string
  summary: string
  /** Who may ask: everybody, any good token, at least a role, or a worker. */
  auth: Access
  query?: z.ZodType
  /** Names that a query may give several times. */
  lists?: readonly string[]
  body?: z.ZodType
  /** The body is a manifest in YAML or JSON, of this schema; its handler reads the text, because problems have a place in it. */
  manifest?: z.ZodType
  /** The body is a message of another protocol, described by this schema; its handler reads the text and refuses it in the words of that protocol. */
  message?: z.ZodType
  /** What it does with which kind of resource. */
  resource?: { verb: ResourceVerb; kind: KindName }
  /** Largest body in bytes. */
  bodyBytes: number
  /** Checked by hot-messages.ts first. */
  hot?: true
  /** Headers that the route reads, with what they do. */
  headers?: Record<string, string>
  responses: { status: number; description: string; type?: string; schema?: z.ZodType }[]
}
