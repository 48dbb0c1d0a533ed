import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Context, Hono } from 'hono'
import { checkRequest, invalidRequest } from '../contract/check-request.ts'
import { isAppendRequest } from '../contract/hot-append.ts'
import { isCreateRunRequest, isHeartbeatRequest, isPollRequest, isReportRequest } from '../contract/hot-messages.ts'
import { findUnstorable, parseJson, textProblem } from '../contract/json-text.ts'
import { actionOf } from '../contract/permissions.ts'
import { type Route, type RouteId, ROUTES } from '../contract/routes.ts'
import type { ResourceVerb } from '../contract/route.ts'
import { isApprovalId, isRunId } from '../base/ids.ts'
import { inScope } from '../base/scope.ts'
import { nearest } from '../base/nearest.ts'
import { Failure } from '../domain/failure.ts'
import type { KindName } from '../domain/kinds/registry.ts'
import { isEnough } from '../domain/roles.ts'
import { listCosts } from './cost-handlers.ts'
import * as access from './access-handlers.ts'
import { CallHere, callOfHono, type RequestHere, SocketCall, toResponse } from './calls.ts'
import type { Answer, ApiDeps, ApiEnv, Call } from './context.ts'
import * as artifacts from './artifact-handlers.ts'
import * as approvals from './approval-handlers.ts'
import { AT_HOME, createEdge } from './edge.ts'
import * as exchange from './exchange-handlers.ts'
import * as journals from './journal-handlers.ts'
import { createMcpRoute } from './mcp/serve-mcp.ts'
import * as memories from './memory-handlers.ts'
import * as models from './model-handlers.ts'
import * as rules from './rule-handlers.ts'
import { observeRequest } from './observe-request.ts'
import { RequestContext } from './request-context.ts'
import { networkOf, rateLimited } from './rate-limits.ts'
import { readBody } from './read-body.ts'
import { bearerToken, checkContentHeaders, checkManifestHeaders } from './request-headers.ts'
import { applyResources, RESOURCE_HANDLERS } from './resource-handlers.ts'
import * as runs from './run-handlers.ts'
import * as secrets from './secret-handlers.ts'
import * as server from './server-handlers.ts'
import * as streams from './stream-handlers.ts'

export interface Api {
  fetch(request: Request, env?: ApiEnv): Promise<Response>
  /** The short way of the addresses that carry the work: no web objects and no router. Null: not such an address. */
  answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<Answer> | null
  /** The same way for a request from this process. */
  answerHere(request: RequestHere): Promise<Answer> | null
}

type Handler = (x: RequestContext) => Answer | Promise<Answer>

const HANDLERS: Record<Exclude<RouteId, `${ResourceVerb}${KindName}` | 'mcp'>, Handler> = {
  applyResources,
  createDefinition: runs.createDefinition,
  getDefinition: runs.getDefinition,
  createRun: runs.createRun,
  createRuns: runs.createRuns,
  listRuns: runs.listRuns,
  getRun: runs.getRun,
  listSteps: runs.listSteps,
  cancelRun: runs.cancelRun,
  retryRun: runs.retryRun,
  retryStep: runs.retryStep,
  skipStep: runs.skipStep,
  nudgeRun: runs.nudgeRun,
  sendEvent: approvals.sendEvent,
  listApprovals: approvals.listApprovals,
  getApproval: approvals.getApproval,
  approveApproval: approvals.approve,
  denyApproval: approvals.deny,
  followEvents: streams.followEvents,
  followLogs: streams.followLogs,
  listArtifacts: artifacts.listArtifacts,
  downloadArtifact: artifacts.downloadArtifact,
  listWorkers: server.listWorkers,
  getStatus: server.getStatus,
  listCosts,
  doctor: server.doctor,
  askModel: models.askModel,
  checkAgent: rules.checkAgent,
  listMemoryEntries: memories.listMemoryEntries,
  getMemoryEntry: memories.getMemoryEntry,
  putMemoryEntry: memories.putMemoryEntry,
  searchMemory: memories.searchMemory,
  ingestMemory: memories.ingestMemory,
  deleteMemoryEntries: memories.deleteMemoryEntries,
  checkMemory: memories.checkMemory,
  memory: memories.memory,
  setSecretValues: secrets.putSecret,
  listSecretValues: secrets.listSecrets,
  showSecretValues: secrets.getSecret,
  deleteSecretValues: secrets.deleteSecret,
  rotateSecrets: secrets.rotateSecrets,
  register: exchange.register,
  poll: exchange.poll,
  report: (x) => exchange.report(x, x.suspect),
  heartbeat: exchange.heartbeat,
  artifacts: artifacts.artifacts,
  chunk: artifacts.chunk,
  exports: artifacts.exports,
  files: artifacts.files,
  content: artifacts.content,
  journal: journals.journal,
  append: journals.append,
  showJournal: journals.showJournal,
  agent: exchange.agent,
  health: server.health,
  ready: server.ready,
  metrics: server.metrics,
  openapi: server.openapi,
  createToken: access.createToken,
  listTokens: access.listTokens,
  revokeToken: access.revokeToken,
  whoami: access.whoami,
  canI: access.canI,
  listAudit: access.listAudit,
}

function handlerOf(route: Route): Handler {
  const { resource } = route
  if (resource) return (x) => RESOURCE_HANDLERS[resource.verb](x, resource.kind)
  return HANDLERS[route.id as keyof typeof HANDLERS] // every other route has no verb of a kind
}

/** The fast checks; what they refuse is looked at by the route's schema, which says what is wrong. */
const HOT_CHECKS: Partial<Record<RouteId, (value: unknown) => boolean>> = {
  createRun: isCreateRunRequest,
  poll: isPollRequest,
  report: isReportRequest,
  append: isAppendRequest,
  heartbeat: isHeartbeatRequest,
}

/** The HTTP API over an engine, as a web-standard handler. Never rejects: whatever goes wrong is a problem body. */
export function createApi(deps: ApiDeps): Api {
  const app = new Hono<{ Bindings: ApiEnv }>()
  const edge = createEdge(deps.clock, deps.edge ?? AT_HOME)
  const begin = (c: Context<{ Bindings: ApiEnv }>) => new RequestContext(deps, edge, callOfHono(c))

  const mcp = createMcpRoute(deps, async (request, env) => app.fetch(request, env))
  for (const route of ROUTES) {
    const handler = route.id === 'mcp' ? mcp : handlerOf(route)
    app.on(route.method, honoPath(route.path), async (c) => toResponse(await answer(begin(c), route, handler)))
  }
  for (const path of new Set(ROUTES.map((route) => route.path))) {
    const allowed = allowedMethods(path)
    app.all(honoPath(path), (c) => {
      const x = begin(c)
      const allow = allowed.join(', ')
      if (c.req.method === 'OPTIONS')
        return toResponse(x.respond(204, null, { allow, ...edge.preflight(x.header('origin'), allow) }))
      const failure = new Failure('request.method_not_allowed', `${c.req.method} ${x.path}`, { evidence: { allowed } })
      return toResponse(refuse(x, failure, { allow }))
    })
  }
  const paths = [...new Set(ROUTES.map((route) => route.path))]
  app.notFound((c) => {
    const x = begin(c)
    const near = nearest(x.path, paths)
    const failure = new Failure(
      'request.not_found',
      `${c.req.method} ${x.path}`,
      near === null ? {} : { evidence: { nearest: near } },
    )
    return toResponse(refuse(x, failure))
  })
  app.onError((error, c) => toResponse(refuse(begin(c), error)))
  const hot = new Map(ROUTES.filter(({ id }) => HOT_CHECKS[id]).map((route) => [route.path, route]))
  const answerShort = (method: string | undefined, path: string | undefined, callOf: (route: Route) => Call) => {
    const route = hot.get(path ?? '')
    if (!route || method !== route.method) return null
    return answer(new RequestContext(deps, edge, callOf(route)), route, handlerOf(route))
  }
  return {
    fetch: async (request, env) => app.fetch(request, env ?? {}),
    answer: (incoming, outgoing) =>
      answerShort(incoming.method, incoming.url, (route) => new SocketCall(incoming, outgoing, route)),
    answerHere: (request) => answerShort(request.method, request.path, () => new CallHere(request)),
  }
}

/** Answers what no route is for. */
function refuse(x: RequestContext, error: unknown, headers?: Record<string, string>): Answer {
  const answered = inScope(x, () => x.respondFailure(error, headers))
  observeRequest(x, { route: null, status: answered.status, ms: 0 })
  return answered
}

/** `/v1/runs/{id}:cancel` as Hono writes it. Values hold no slash and, where a verb may follow, no colon. */
function honoPath(path: string): string {
  return path
    .split('/')
    .map((segment) =>
      segment.replace(/^\{(\w+)\}(:\w+)?$/, (_, name: string, verb?: string) => `:${name}{[^/:]+${verb ?? ''}}`),
    )
    .join('/')
}

function allowedMethods(path: string): string[] {
  const methods = ROUTES.filter((route) => route.path === path).map((route) => route.method as string)
  if (methods.includes('GET')) methods.push('HEAD')
  return [...methods, 'OPTIONS']
}

async function answer(x: RequestContext, route: Route, handler: Handler): Promise<Answer> {
  const begin = x.deps.clock.monotonic()
  const answered = await inScope(x, () => answerInScope(x, route, handler))
  observeRequest(x, { route, status: answered.status, ms: x.deps.clock.monotonic() - begin })
  return answered
}

async function answerInScope(x: RequestContext, route: Route, handler: Handler): Promise<Answer> {
  try {
    if (route.auth === 'none') limitOpen(x)
    else await authenticate(x, route)
    checkParams(x, route)
    if (route.auth !== 'none') x.query = readQuery(x, route)
    if (route.method === 'POST' || route.method === 'PUT') await takeBody(x, route)
    return await handler(x)
  } catch (error) {
    return x.respondFailure(error)
  }
}

async function authenticate(x: RequestContext, route: Route): Promise<void> {
  const header = x.header('authorization')
  const token = bearerToken(header)
  if (token !== null) refuseGuesses(x, token)
  const who = token === null ? null : await x.deps.engine.authenticate(token)
  if (who === null) {
    if (token !== null) {
      const { address, path, requestId } = x
      x.deps.engine.access.noteRefused({ token, address: address && networkOf(address), path, requestId })
    }
    countRefusal(x)
    // The worker's own code: its remedy is a setting of the worker.
    const code = route.auth === 'worker' ? 'worker.auth_failed' : 'client.unauthorized'
    const reason = header === null ? 'missing' : token === null ? 'no bearer token' : 'unknown, revoked or expired'
    throw new Failure(code, `${x.call.method} ${x.path}`, { evidence: { token: reason } })
  }
  const { actor, role, organisation, namespaces } = who
  if (route.auth !== 'worker') limitToken(x, actor)
  x.caller = { actor, role, organisation, namespaces, requestId: x.requestId, address: x.address }
  if (!isEnough(role, route.auth)) {
    x.deps.engine.access.noteDenied(x.caller, { action: actionOf(route), path: x.path })
    throw new Failure('client.forbidden', `${x.call.method} ${x.path}`, { evidence: { role, required: route.auth } })
  }
}

function limitOpen(x: RequestContext): void {
  const { address } = x
  const waitMs = address === null ? 0 : x.edge.limits.open.take(networkOf(address))
  if (waitMs > 0) throw rateLimited(`${x.call.method} ${x.path}`, `address ${address}`, waitMs)
}

function limitToken(x: RequestContext, actor: string): void {
  const waitMs = x.edge.limits.tokens.take(actor)
  if (waitMs > 0) throw rateLimited(`${x.call.method} ${x.path}`, `token ${actor}`, waitMs)
}

/** An address that was refused too often has its unknown tokens looked up no more; who holds a good one there is not held up. */
function refuseGuesses(x: RequestContext, token: string): void {
  const { address } = x
  const waitMs = address === null ? 0 : x.edge.limits.refused.peek(networkOf(address))
  if (waitMs > 0 && !x.deps.engine.access.knows(token))
    throw rateLimited(`${x.call.method} ${x.path}`, `address ${address}`, waitMs)
}

function countRefusal(x: RequestContext): void {
  const { address } = x
  const waitMs = address === null ? 0 : x.edge.limits.refused.take(networkOf(address))
  if (waitMs > 0) throw rateLimited(`${x.call.method} ${x.path}`, `address ${address}`, waitMs)
}

/** Ids of tokens that were given by hand are short words too. */
const TOKEN_ID = /^[\w-]{1,100}$/

/** A parameter that cannot name anything is answered as absent, before anything is asked. */
function checkParams(x: RequestContext, route: Route): void {
  if (!route.path.includes('{')) return
  const verb = /:\w+$/.exec(route.path)?.[0] ?? ''
  for (const [, name] of route.path.matchAll(/\{(\w+)\}/g)) {
    const raw = x.call.rawParam(name ?? '')
    const value = route.path.endsWith(`{${name}}${verb}`) ? raw.slice(0, raw.length - verb.length) : raw
    x.params.set(name ?? '', value)
    if (name === 'token' && !TOKEN_ID.test(value))
      throw new Failure('token.not_found', `looking for token ${shorten(value)}`)
    if (name === 'id' && !isRunId(value)) throw new Failure('run.not_found', `finding run ${shorten(value)}`)
    if (name === 'approval' && !isApprovalId(value))
      throw new Failure('approval.not_found', `finding approval ${shorten(value)}`)
    if (name === 'hash' && !/^[\w:.-]{1,256}$/.test(value))
      throw new Failure('definition.not_found', `finding definition ${shorten(value)}`)
    if (name === 'memory' && !isName(value))
      throw new Failure('resource.not_found', `looking for Memory ${shorten(value)}`)
    if (name === 'model' && !isName(value))
      throw new Failure('resource.not_found', `looking for ModelEndpoint ${shorten(value)}`)
    if (name === 'agent' && !isName(value))
      throw new Failure('resource.not_found', `looking for Agent ${shorten(value)}`)
    if (route.resource && (name === 'name' || name === 'namespace') && !isName(value))
      throw new Failure('resource.not_found', `looking for ${name} ${shorten(value)}`)
    if (route.path.includes('/secret-values')) secrets.checkSecretParam(name ?? '', value)
    else if (name === 'name' && (textProblem(value) !== null || value.length > 512))
      throw new Failure('step.not_found', `finding step ${shorten(value)}`)
  }
}

/** What a resource or a namespace may be called at all; anything else is not there. */
const isName = (text: string): boolean => text.length <= 256 && textProblem(text) === null

const shorten = (text: string) => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)

function readQuery(x: RequestContext, route: Route): unknown {
  const { search } = x.call
  if (search === null) return {}
  const given = new Map<string, string | string[]>()
  for (const [key, value] of new URLSearchParams(search)) {
    const bad = textProblem(key) ?? textProblem(value)
    if (bad !== null) throw invalidRequest('reading the query', key, bad)
    const former = given.get(key)
    if (route.lists?.includes(key)) given.set(key, [...(former ?? []), value])
    else if (former === undefined) given.set(key, value)
    else throw invalidRequest('reading the query', key, 'is given more than once')
  }
  const [first] = given.keys()
  if (route.query) return checkRequest(route.query, Object.fromEntries(given), 'reading the query')
  if (first !== undefined) throw invalidRequest('reading the query', first, 'this address takes no query')
  return {}
}

async function takeBody(x: RequestContext, route: Route): Promise<void> {
  const text = await readBody(x.call.body, route.bodyBytes)
  if (route.manifest) {
    checkManifestHeaders(x.header('content-type'), x.header('content-encoding'))
    x.bodyText = text
    return
  }
  if (!route.body) {
    x.bodyText = text
    return
  }
  checkContentHeaders(x.header('content-type'), x.header('content-encoding'))
  const parsed = parseJson(text)
  if (parsed.kind === 'refused') throw invalidRequest('reading the request', parsed.path, parsed.message)
  const hot = HOT_CHECKS[route.id]
  x.bodyText = text
  x.suspect = parsed.suspect
  x.body = hot?.(parsed.value) === true ? parsed.value : checkRequest(route.body, parsed.value, 'reading the request')
  // Reports are looked at one by one: a bad one must not keep the others from being recorded.
  const bad = parsed.suspect && route.id !== 'report' ? findUnstorable(parsed.value) : null
  if (bad) throw invalidRequest('reading the request', bad.path, bad.message)
}
