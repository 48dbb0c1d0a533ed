import type { Span } from '../base/trace.ts'

const KINDS = { internal: 1, server: 2, client: 3, consumer: 5 } as const
const SAMPLED = 1
const ERROR = 2

/** Spans as OTLP/JSON has them: hex ids, nanoseconds as text. */
export function toOtlp(spans: readonly Span[], resource: Record<string, string>, version: string): string {
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: attributesOf(resource) },
        scopeSpans: [{ scope: { name: 'orrery', version }, spans: spans.map(spanOf) }],
      },
    ],
  })
}

const spanOf = (span: Span) => ({
  traceId: span.traceId,
  spanId: span.spanId,
  ...(span.parentSpanId === null ? {} : { parentSpanId: span.parentSpanId }),
  flags: SAMPLED,
  name: span.name,
  kind: KINDS[span.kind],
  startTimeUnixNano: nanos(span.startedAt),
  endTimeUnixNano: nanos(Math.max(span.startedAt, span.endedAt)),
  attributes: attributesOf(span.attributes),
  ...(span.links && span.links.length > 0 ? { links: span.links } : {}),
  status: span.failure === null ? {} : { code: ERROR, message: span.failure },
})

/** Milliseconds are kept to the microsecond: that is what they are measured to. */
const nanos = (ms: number): string => `${BigInt(Math.round(ms * 1000))}000`

const attributesOf = (values: Record<string, string | number | boolean>) =>
  Object.entries(values).map(([key, value]) => ({ key, value: valueOf(value) }))

function valueOf(value: string | number | boolean): Record<string, unknown> {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}
