import { creationSpanOf, traceIdOfId, type Tracer } from '../base/trace.ts'
import type { Route } from '../contract/routes.ts'
import type { RequestContext } from './request-context.ts'

/** Routes that are asked all the time and tell nothing of any one run: no spans, unless the caller sent a trace with them. */
const isBackground = (route: Route | null): boolean =>
  route !== null && (route.auth === 'worker' || route.auth === 'none')

const CLASSES = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const

/** Counts a request that was answered, and gives its span. `route` null: nothing is there, or not by this method. */
export function observeRequest(
  x: RequestContext,
  { route, status, ms }: { route: Route | null; status: number; ms: number },
): void {
  const { meter, tracer, clock } = x.deps
  const name = route?.id ?? 'other'
  meter?.count('orrery_http_requests_total', 1, { route: name, status: CLASSES[Math.floor(status / 100) - 1] ?? '5xx' })
  if (route) meter?.observe('orrery_http_request_seconds', ms / 1000, { route: name })
  if (!tracer?.isOn || (isBackground(route) && x.parent === null)) return
  const { trace, parent, runId } = x
  const endedAt = clock.now()
  if (parent === null) giveCreations(x, { tracer, startedAt: endedAt - ms, endedAt })
  if (!trace.sampled) return
  tracer.record({
    ...trace,
    name: `${x.call.method} ${route?.path ?? 'unknown'}`,
    kind: 'server',
    parentSpanId: parent?.spanId ?? null,
    startedAt: endedAt - ms,
    endedAt,
    attributes: {
      'http.request.method': x.call.method,
      'http.response.status_code': status,
      ...(route ? { 'http.route': route.path } : {}),
      'orrery.request_id': x.requestId,
      ...(runId === null ? {} : { 'orrery.run_id': runId }),
    },
    failure: status >= 500 ? `answered ${status}` : null,
  })
}

/** The runs of a bulk request do not share a trace: a span in each stands for the request, and is linked to it. */
function giveCreations(
  x: RequestContext,
  { tracer, startedAt, endedAt }: { tracer: Tracer; startedAt: number; endedAt: number },
): void {
  for (const runId of x.bulk) {
    const traceId = traceIdOfId(runId)
    if (!tracer.samplesRoot(traceId)) continue
    tracer.record({
      traceId,
      spanId: creationSpanOf(runId),
      sampled: true,
      parentSpanId: null,
      name: 'create run',
      kind: 'server',
      startedAt,
      endedAt,
      attributes: { 'orrery.run_id': runId, 'orrery.request_id': x.requestId },
      failure: null,
      links: [{ traceId: x.trace.traceId, spanId: x.trace.spanId }],
    })
  }
}
