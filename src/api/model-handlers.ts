import type { AskModelRequest } from '../contract/api-types.ts'
import { encodeSse, SSE_COMMENT } from '../contract/sse.ts'
import { LIMITS } from '../domain/limits.ts'
import type { ModelEvent } from '../domain/model-call.ts'
import type { Answer, Exchange } from './context.ts'
import { chooseType } from './request-headers.ts'
import { streamBody } from './streams.ts'
import { ownNamespace } from './tenancy.ts'

// The body was checked by the schema of its route before a handler sees it: that is the reason for the `as` here.

/** Asks a model: events as they come, or with `Accept: application/json` the result when there is one. */
export async function askModel(x: Exchange): Promise<Answer> {
  const at = { namespace: ownNamespace(x.caller, x.param('namespace')), name: x.param('model') }
  const ask = x.body as AskModelRequest
  const type = chooseType(x.header('accept'), ['text/event-stream', 'application/json'])
  if (type === 'application/json') {
    for await (const event of await x.deps.engine.askModel(x.caller, at, ask, x.signal))
      if (event.type === 'finished') return x.respondJson(200, event.result)
    throw new Error(`the call of ${at.name} ended without a result`)
  }
  // Who may not ask is told so by a status: after the first byte there is none any more.
  const gone = new AbortController()
  const events = await x.deps.engine.askModel(x.caller, at, ask, AbortSignal.any([x.signal, gone.signal]))
  const body = streamBody<ModelEvent>(
    (signal) => {
      signal.addEventListener('abort', () => gone.abort(signal.reason), { once: true })
      return events
    },
    {
      item: (event) => encodeSse({ event: event.type, data: JSON.stringify(event) }),
      heartbeat: SSE_COMMENT,
      heartbeatMs: LIMITS.sseHeartbeatMs,
      end: () => '',
      failed: (error) => encodeSse({ event: 'failure', data: JSON.stringify(x.recordFailure(error)) }),
    },
    { clock: x.deps.clock, signal: x.signal },
  )
  return x.respond(200, body, { 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' })
}
