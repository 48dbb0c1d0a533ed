import { nearest } from '../base/nearest.ts'
import type { Access } from '../domain/roles.ts'
import { invalidRequest } from './check-request.ts'
import type { ResourceRouteId } from './resource-routes.ts'
import type { ResourceVerb } from './route.ts'
import { kindOf } from '../domain/kinds/registry.ts'
import { type Route, type RouteId, ROUTES } from './routes.ts'

export interface Permission {
  verb: string
  resource: string
}

/** What each address does to what: names of the audit log, and what `can-i` answers about. Null: it is for everybody. */
export const PERMISSIONS: Readonly<Record<Exclude<RouteId, ResourceRouteId>, Permission | null>> = {
  createDefinition: { verb: 'create', resource: 'definitions' },
  getDefinition: { verb: 'get', resource: 'definitions' },
  createRun: { verb: 'create', resource: 'runs' },
  createRuns: { verb: 'create', resource: 'runs' },
  listRuns: { verb: 'list', resource: 'runs' },
  getRun: { verb: 'get', resource: 'runs' },
  listSteps: { verb: 'list', resource: 'steps' },
  cancelRun: { verb: 'cancel', resource: 'runs' },
  retryRun: { verb: 'retry', resource: 'runs' },
  retryStep: { verb: 'retry', resource: 'steps' },
  skipStep: { verb: 'skip', resource: 'steps' },
  followEvents: { verb: 'get', resource: 'events' },
  followLogs: { verb: 'get', resource: 'logs' },
  listWorkers: { verb: 'list', resource: 'workers' },
  nudgeRun: { verb: 'nudge', resource: 'runs' },
  sendEvent: { verb: 'send', resource: 'events' },
  listApprovals: { verb: 'list', resource: 'approvals' },
  getApproval: { verb: 'get', resource: 'approvals' },
  approveApproval: { verb: 'approve', resource: 'approvals' },
  denyApproval: { verb: 'deny', resource: 'approvals' },
  askModel: { verb: 'ask', resource: 'modelendpoints' },
  checkAgent: { verb: 'check', resource: 'agents' },
  listMemoryEntries: { verb: 'read', resource: 'memories' },
  getMemoryEntry: { verb: 'read', resource: 'memories' },
  searchMemory: { verb: 'read', resource: 'memories' },
  putMemoryEntry: { verb: 'write', resource: 'memories' },
  ingestMemory: { verb: 'write', resource: 'memories' },
  deleteMemoryEntries: { verb: 'write', resource: 'memories' },
  checkMemory: { verb: 'check', resource: 'memories' },
  memory: { verb: 'take', resource: 'work' },
  setSecretValues: { verb: 'set', resource: 'secrets' },
  listSecretValues: { verb: 'list', resource: 'secrets' },
  showSecretValues: { verb: 'get', resource: 'secrets' },
  deleteSecretValues: { verb: 'delete', resource: 'secrets' },
  rotateSecrets: { verb: 'rotate', resource: 'secrets' },
  doctor: { verb: 'get', resource: 'doctor' },
  listCosts: { verb: 'list', resource: 'costs' },
  getStatus: { verb: 'get', resource: 'status' },
  register: { verb: 'take', resource: 'work' },
  poll: { verb: 'take', resource: 'work' },
  report: { verb: 'take', resource: 'work' },
  heartbeat: { verb: 'take', resource: 'work' },
  listArtifacts: { verb: 'list', resource: 'artifacts' },
  downloadArtifact: { verb: 'get', resource: 'artifacts' },
  artifacts: { verb: 'take', resource: 'work' },
  chunk: { verb: 'take', resource: 'work' },
  exports: { verb: 'take', resource: 'work' },
  files: { verb: 'take', resource: 'work' },
  content: { verb: 'take', resource: 'work' },
  journal: { verb: 'take', resource: 'work' },
  append: { verb: 'take', resource: 'work' },
  showJournal: { verb: 'get', resource: 'journals' },
  agent: { verb: 'take', resource: 'work' },
  health: null,
  ready: null,
  metrics: null,
  openapi: null,
  createToken: { verb: 'create', resource: 'tokens' },
  listTokens: { verb: 'list', resource: 'tokens' },
  revokeToken: { verb: 'revoke', resource: 'tokens' },
  whoami: null,
  canI: null,
  mcp: null,
  listAudit: { verb: 'list', resource: 'audit' },
}

/** As the audit log calls it: `runs.cancel`. */
export const actionOf = (route: Route): string => {
  const permission = permissionAt(route)
  return permission === null ? route.id : `${permission.resource}.${permission.verb}`
}

const RESOURCE_VERBS: Record<ResourceVerb, string> = {
  list: 'list',
  listAll: 'list',
  get: 'get',
  put: 'apply',
  delete: 'delete',
  listVersions: 'get',
  getVersion: 'get',
}

/** What an address does to what; null when it is for everybody. */
export function permissionAt(route: Route): Permission | null {
  if (route.resource) return { verb: RESOURCE_VERBS[route.resource.verb], resource: kindOf(route.resource.kind).plural }
  if (route.id === 'applyResources') return { verb: 'apply', resource: 'resources' }
  return PERMISSIONS[route.id as keyof typeof PERMISSIONS] // what is left are the routes of the table
}

/** The least role for a verb on a resource, as its address asks for it. `request.invalid` names what there is. */
export function permissionOf(verb: string, resource: string): { action: string; needed: Access } {
  const known = ROUTES.flatMap((route) => {
    const permission = permissionAt(route)
    return permission === null ? [] : [{ ...permission, needed: route.auth }]
  })
  // One of a thing is asked for as many are.
  const named = known.filter((p) => p.resource === resource || p.resource === `${resource}s`)
  if (named.length === 0) throw unknown('resource', resource, [...new Set(known.map((p) => p.resource))])
  const found = named.find((p) => p.verb === verb)
  if (!found) throw unknown('verb', verb, [...new Set(named.map((p) => p.verb))])
  return { action: `${found.resource}.${found.verb}`, needed: found.needed }
}

function unknown(member: string, given: string, there: string[]) {
  const near = nearest(given, there)
  const hint = near === null ? '' : `; did you mean ${near}?`
  return invalidRequest('asking what may be done', member, `must be one of ${there.join(', ')}${hint}`)
}
