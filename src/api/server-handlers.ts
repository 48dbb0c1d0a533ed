import { diagnoseHost, diagnoseServer, inOrder } from '../diagnose/index.ts'
import { makeOpenApi } from '../contract/openapi.ts'
import { Failure } from '../domain/failure.ts'
import type { Answer, Exchange } from './context.ts'
import { shown } from './tenancy.ts'

export async function listWorkers(x: Exchange): Promise<Answer> {
  return x.respondJson(200, { items: await x.deps.engine.listWorkers(x.caller) })
}

export async function getStatus(x: Exchange): Promise<Answer> {
  const status = await x.deps.engine.getStatus(x.caller)
  return x.respondJson(200, { ...status, queues: status.queues.map((queue) => shown(x.caller, queue)) })
}

export async function doctor(x: Exchange): Promise<Answer> {
  const { engine, clock, version, examineHost } = x.deps
  const [server, host] = await Promise.all([engine.examine(x.caller), examineHost?.()])
  const rows = inOrder([...diagnoseServer(server), ...(host ? diagnoseHost(host) : [])])
  return x.respondJson(200, { version, now: new Date(clock.now()).toISOString(), rows })
}

export function health(x: Exchange): Answer {
  return x.respondJson(200, { status: 'ok', version: x.deps.version })
}

export async function ready(x: Exchange): Promise<Answer> {
  await x.deps.engine.checkReady()
  return x.respondJson(200, { status: 'ok', version: x.deps.version })
}

export async function metrics(x: Exchange): Promise<Answer> {
  const source = x.deps.metrics
  if (source === null) throw new Failure('telemetry.metrics_disabled', 'reading the metrics of this server')
  return x.respond(200, await source.metrics(), { 'content-type': source.contentType })
}

export function openapi(x: Exchange): Answer {
  return x.respondJson(200, makeOpenApi(x.deps.version))
}
