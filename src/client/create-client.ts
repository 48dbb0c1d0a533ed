import { type Clock, systemClock } from '../base/clock.ts'
import { type Random, systemRandom } from '../base/random.ts'
import { parseTraceparent } from '../base/trace.ts'
import type { Secret } from '../base/secret.ts'
import type { WorkerView } from '../contract/api-types.ts'
import { Asker } from './ask.ts'
import { askModel } from './ask-model.ts'
import type { Client } from './client.ts'
import { followEvents, followLogs, readLogs } from './follow.ts'
import { silenceFor } from './http-transport.ts'
import { queryText } from './query-text.ts'
import { createResourceClient } from './resource-client.ts'
import type { Transport, TransportStream } from './transport.ts'
import { waitForRun } from './wait.ts'

export interface ClientOptions {
  transport: Transport
  /** Null: none is sent. */
  token: Secret | null
  /** The span that all requests are a part of, as W3C Trace Context has it; one that is not valid is not sent. */
  traceparent?: string | undefined
  /** Which flag, variable or file gave the token; part of the evidence when it is refused. */
  tokenFrom?: string
  clock?: Clock
  random?: Random
}

// Answers are the contract's types on the word of the server: that is the reason for each `as` below.

export function createClient(options: ClientOptions): Client {
  const asker = new Asker(options.transport, options.token, {
    traceparent: parseTraceparent(options.traceparent) && (options.traceparent ?? null),
    tokenFrom: options.tokenFrom ?? null,
  })
  const deps = { asker, clock: options.clock ?? systemClock, random: options.random ?? systemRandom }
  const get = (path: string) => asker.ask('GET', path) as Promise<never>
  const post = (path: string, body?: unknown) => asker.ask('POST', path, { body }) as Promise<never>
  const secretPath = (namespace: string, name: string) =>
    `/v1/namespaces/${encodeURIComponent(namespace)}/secret-values/${encodeURIComponent(name)}`
  const memoryPath = (namespace: string, memory: string) =>
    `/v1/namespaces/${encodeURIComponent(namespace)}/memories/${encodeURIComponent(memory)}`
  const approvalPath = (id: string) => `/v1/approvals/${encodeURIComponent(id)}`
  const runPath = (runId: string) => `/v1/runs/${encodeURIComponent(runId)}`

  return {
    address: options.transport.address,
    resources: createResourceClient(deps),
    putDefinition: (request) => post('/v1/definitions', request),
    getDefinition: (hash) => get(`/v1/definitions/${encodeURIComponent(hash)}`),
    createRun: async (request, { idempotencyKey, waitMs, signal } = {}) => {
      const answer = (await asker.ask('POST', '/v1/runs', {
        body: request,
        headers: {
          ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
          ...(waitMs === undefined ? {} : { prefer: `wait=${waitMs / 1000}` }),
        },
        repeatable: idempotencyKey !== undefined,
        ...(waitMs === undefined ? {} : { silenceMs: silenceFor(waitMs) }),
        signal,
      })) as { id: string; warnings?: string[] }
      return { id: answer.id, run: 'stepList' in answer ? (answer as never) : null, warnings: answer.warnings ?? [] }
    },
    createRuns: (request, { idempotencyKey } = {}) =>
      asker.ask('POST', '/v1/runs:bulk', {
        body: request,
        headers: idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
        repeatable: idempotencyKey !== undefined,
      }) as Promise<never>,
    getRun: (runId) => get(runPath(runId)),
    waitForRun: (runId, wait = {}) => waitForRun(deps, runId, wait),
    listRuns: ({ namespace, workflow, states, labelSelector, since, cursor, limit } = {}) =>
      get(`/v1/runs${queryText({ namespace, workflow, state: states, labelSelector, since, cursor, limit })}`),
    listSteps: (runId, { cursor, limit } = {}) => get(`${runPath(runId)}/steps${queryText({ cursor, limit })}`),
    cancelRun: (runId) => post(`${runPath(runId)}:cancel`),
    retryRun: (runId) => post(`${runPath(runId)}:retry`),
    retryStep: (runId, step) => post(`${runPath(runId)}/steps/${encodeURIComponent(step)}:retry`),
    skipStep: (runId, step, output) => post(`${runPath(runId)}/steps/${encodeURIComponent(step)}:skip`, { output }),
    listEvents: (runId, { afterSeq } = {}) => get(`${runPath(runId)}/events${queryText({ after: afterSeq })}`),
    nudgeRun: (runId) => post(`${runPath(runId)}:nudge`),
    sendEvent: (runId, { name, payload }, { idempotencyKey } = {}) =>
      asker.ask('POST', `${runPath(runId)}/events/${encodeURIComponent(name)}:send`, {
        body: payload === undefined ? {} : { payload },
        headers: idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
        repeatable: idempotencyKey !== undefined,
      }) as Promise<never>,
    listApprovals: ({ namespace, run, step, states, cursor, limit } = {}) =>
      get(`/v1/approvals${queryText({ namespace, run, step, state: states, cursor, limit })}`),
    getApproval: (id) => get(approvalPath(id)),
    approve: (id, decision = {}) => post(`${approvalPath(id)}:approve`, decision),
    deny: (id, decision = {}) => post(`${approvalPath(id)}:deny`, decision),
    followEvents: (runId, follow = {}) => followEvents(deps, runId, follow),
    followLogs: (runId, follow = {}) => followLogs(deps, runId, follow),
    showJournal: (runId, step, { from, limit } = {}) =>
      get(`${runPath(runId)}/steps/${encodeURIComponent(step)}/journal${queryText({ from, limit })}`),
    readLogs: (runId, options) => readLogs(deps, runId, options),
    listArtifacts: (runId, { cursor, limit } = {}) => get(`${runPath(runId)}/artifacts${queryText({ cursor, limit })}`),
    openArtifact: async (runId, { step, name }, { signal } = {}) => {
      const path = `${runPath(runId)}/artifacts/content${queryText({ step, name })}`
      const accept = { accept: 'application/octet-stream' }
      return bytesOf((await asker.open(path, { headers: accept, encoding: 'latin1', signal })).body)
    },
    askModel: (namespace, name, request, { signal } = {}) => {
      const path = `/v1/namespaces/${encodeURIComponent(namespace)}/modelendpoints/${encodeURIComponent(name)}:ask`
      return askModel(deps, path, { request, signal })
    },
    checkAgent: (namespace, name, request) =>
      post(`/v1/namespaces/${encodeURIComponent(namespace)}/agents/${encodeURIComponent(name)}:check`, request),
    listWorkers: async () => ((await get('/v1/workers')) as { items: WorkerView[] }).items,
    getStatus: () => get('/v1/status'),
    getDoctor: () => get('/v1/doctor'),
    listMemoryEntries: (namespace, memory, query = {}) =>
      get(`${memoryPath(namespace, memory)}/entries${queryText(query)}`),
    getMemoryEntry: (namespace, memory, entry) => get(`${memoryPath(namespace, memory)}/entry${queryText(entry)}`),
    putMemoryEntry: (namespace, memory, entry, request) =>
      asker.ask('PUT', `${memoryPath(namespace, memory)}/entry${queryText(entry)}`, {
        body: request,
      }) as Promise<never>,
    searchMemory: (namespace, memory, request, of = {}) =>
      post(`${memoryPath(namespace, memory)}/entries:search${queryText(of)}`, request),
    ingestMemory: (namespace, memory, request, of = {}) =>
      post(`${memoryPath(namespace, memory)}/entries:ingest${queryText(of)}`, request),
    deleteMemoryEntries: (namespace, memory, { keys, prefix, all, scope }) =>
      asker.ask(
        'DELETE',
        `${memoryPath(namespace, memory)}/entries${queryText({ key: keys, prefix, all: all === true ? 'true' : undefined, scope })}`,
      ) as Promise<never>,
    checkMemory: (namespace, memory) => post(`${memoryPath(namespace, memory)}:check`),
    putSecret: (namespace, name, request) =>
      asker.ask('PUT', secretPath(namespace, name), { body: request }) as Promise<never>,
    listSecrets: (namespace, { cursor, limit } = {}) =>
      get(`/v1/namespaces/${encodeURIComponent(namespace)}/secret-values${queryText({ cursor, limit })}`),
    getSecret: (namespace, name, { keys } = {}) => get(secretPath(namespace, name) + queryText({ key: keys })),
    deleteSecret: (namespace, name, { keys } = {}) =>
      asker.ask('DELETE', secretPath(namespace, name) + queryText({ key: keys })) as Promise<never>,
    rotateSecrets: (request = {}) => post('/v1/secrets:rotate', request),
    getHealth: () => get('/healthz'),
    getReadiness: () => get('/readyz'),
    getMetrics: () => textOf(asker.open('/metrics', { headers: { accept: 'text/plain' } })),
    getOpenApi: () => get('/openapi.json'),
    whoami: () => get('/v1/whoami'),
    createToken: (request) => post('/v1/tokens', request),
    listTokens: ({ all, cursor, limit } = {}) =>
      get(`/v1/tokens${queryText({ all: all ? 'true' : undefined, cursor, limit })}`),
    revokeToken: (id) => post(`/v1/tokens/${encodeURIComponent(id)}:revoke`),
    canI: (request) => post('/v1/can-i', request),
    listCosts: (query = {}) => get(`/v1/costs${queryText({ ...query })}`),
    listAudit: (query = {}) => get(`/v1/audit${queryText({ ...query })}`),
    close: () => options.transport.close(),
  }
}

async function textOf(stream: Promise<TransportStream>): Promise<string> {
  let text = ''
  for await (const chunk of (await stream).body) text += chunk
  return text
}

async function* bytesOf(body: AsyncIterable<string>): AsyncIterable<Uint8Array> {
  for await (const text of body) yield Buffer.from(text, 'latin1')
}
