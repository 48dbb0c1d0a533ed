import { makeOpenApi } from '../contract/openapi.ts'
import type { Exchange } from './context.ts'

export async function listWorkers(x: Exchange): Promise<Response> {
  return x.respondJson(200, { items: await x.deps.engine.listWorkers(x.caller) })
}

export function health(x: Exchange): Response {
  return x.respondJson(200, { status: 'ok', version: x.deps.version })
}

export async function ready(x: Exchange): Promise<Response> {
  await x.deps.engine.checkReady()
  return x.respondJson(200, { status: 'ok', version: x.deps.version })
}

export async function metrics(x: Exchange): Promise<Response> {
  return x.respond(200, await x.deps.metrics.metrics(), { 'content-type': x.deps.metrics.contentType })
}

export function openapi(x: Exchange): Response {
  return x.respondJson(200, makeOpenApi(x.deps.version))
}
