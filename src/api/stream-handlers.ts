import type { LogLine, RunEvent } from '../contract/api-types.ts'
import { encodeSse, SSE_COMMENT } from '../contract/sse.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Answer, Exchange } from './context.ts'
import { chooseType, lastEventId } from './request-headers.ts'
import { streamBody } from './streams.ts'

type TerminalEvent = RunEvent & { terminal: boolean }

export async function followEvents(x: Exchange): Promise<Answer> {
  const runId = x.param('id')
  const after = lastEventId(x.header('last-event-id')) ?? (x.query as { after?: number }).after ?? 0
  const type = chooseType(x.header('accept'), ['text/event-stream', 'application/json'])
  if (type === 'application/json')
    return x.respondJson(200, await x.deps.engine.listEvents(x.caller, runId, after, LIMITS.eventsMax))
  await requireVisible(x, runId)

  let last = after
  let ended = false
  const body = streamBody<TerminalEvent>(
    (signal) => x.deps.engine.followEvents(x.caller, runId, after, signal),
    {
      item: (event) => {
        last = event.seq
        ended = event.terminal
        const { terminal, ...data } = event
        return encodeSse({ id: String(event.seq), event: terminal ? 'end' : 'changes', data: JSON.stringify(data) })
      },
      heartbeat: SSE_COMMENT,
      heartbeatMs: LIMITS.sseHeartbeatMs,
      // A reader that had seen the terminal event already is told so once more: it must not take this end for a cut.
      end: () => (ended ? '' : encodeSse({ id: String(last), event: 'end', data: 'null' })),
      failed: (error) => encodeSse({ event: 'failure', data: JSON.stringify(x.recordFailure(error)) }),
    },
    { clock: x.deps.clock, signal: x.signal },
  )
  return x.respond(200, body, { 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' })
}

export async function followLogs(x: Exchange): Promise<Answer> {
  const runId = x.param('id')
  const query = x.query as { step?: string; cursor?: string; follow?: 'true' | 'false' }
  const type = chooseType(x.header('accept'), ['text/plain', 'application/x-ndjson'])
  await requireVisible(x, runId)
  const step = query.step ?? null
  const filter = { step, cursor: query.cursor ?? null, follow: query.follow === 'true' }
  const open = (signal: AbortSignal) => x.deps.engine.followLogs(x.caller, runId, filter, signal)
  const deps = { clock: x.deps.clock, signal: x.signal }
  const beat = { heartbeatMs: LIMITS.sseHeartbeatMs }
  type Line = LogLine & { cursor: string }
  const headers = { 'content-type': `${type}; charset=utf-8`, 'x-accel-buffering': 'no' }
  if (type === 'application/x-ndjson') {
    const body = streamBody<Line>(
      open,
      {
        ...beat,
        item: (line) => `${JSON.stringify(line)}\n`,
        heartbeat: '\n',
        end: () => '{"end":true}\n',
        failed: (error) => `${JSON.stringify({ failure: x.recordFailure(error) })}\n`,
      },
      deps,
    )
    return x.respond(200, body, headers)
  }
  const body = streamBody<Line>(
    open,
    {
      ...beat,
      item: (line) => `${step === null ? `${line.step} | ` : ''}${line.text}\n`,
      heartbeat: null,
      end: () => '',
      failed: (error) => {
        const failure = x.recordFailure(error)
        return `orrery: ${failure.code}: ${failure.message}. ${failure.remediation}\n`
      },
    },
    deps,
  )
  return x.respond(200, body, headers)
}

/** Throws `run.not_found` before a stream begins: after its first byte there is no status any more. */
async function requireVisible(x: Exchange, runId: string): Promise<void> {
  await x.deps.engine.listSteps(x.caller, runId, { cursor: null, limit: 1 })
}
