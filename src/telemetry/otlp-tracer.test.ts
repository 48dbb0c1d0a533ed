import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import type { LogFields } from '../base/log.ts'
import { silentLog } from '../base/log.ts'
import { seededRandom } from '../base/random.ts'
import type { Span } from '../base/trace.ts'
import { LIMITS } from '../domain/limits.ts'
import { createOtlpTracer } from './otlp-tracer.ts'
import { createSampler } from './sampler.ts'

const span = (n: number): Span => ({
  traceId: n.toString(16).padStart(32, '0'),
  spanId: '00f067aa0ba902b7',
  sampled: true,
  name: `span ${n}`,
  kind: 'internal',
  parentSpanId: null,
  startedAt: 1_700_000_000_000.25,
  endedAt: 1_700_000_000_001,
  attributes: { text: 'a', whole: 3, part: 0.5, yes: true },
  failure: n === 2 ? 'step.timed_out' : null,
})

/** A collector that answers with these statuses, one after another, then with 200. */
async function collector(statuses: number[]) {
  const bodies: { resourceSpans: { scopeSpans: { spans: Record<string, unknown>[] }[] }[] }[] = []
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      const status = statuses.shift() ?? 200
      if (status === 200) bodies.push(JSON.parse(text)) // what the tracer sends
      response.writeHead(status).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    endpoint: `http://127.0.0.1:${port}/v1/traces`,
    spans: () => bodies.flatMap((b) => b.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans))),
  }
}

function make(endpoint: string) {
  const counted: Record<string, number> = { sent: 0, dropped: 0 }
  const said: { level: string; message: string; fields: LogFields | undefined }[] = []
  const say = (level: string) => (message: string, fields?: LogFields) => void said.push({ level, message, fields })
  const tracer = createOtlpTracer({
    collector: { endpoint, headers: {}, timeoutMs: 2_000, ca: null },
    sampler: createSampler('always_on', 1),
    resource: { 'service.name': 'test' },
    version: '1',
    delayMs: 1,
    capturesContent: false,
    // Every rest is over at once: what is waited for here is the collector.
    clock: {
      ...systemClock,
      now: systemClock.now,
      monotonic: systemClock.monotonic,
      sleep: (_, s) => systemClock.sleep(0, s),
    },
    random: seededRandom(1),
    log: { ...silentLog, warn: say('warn'), info: say('info') },
    metrics: {
      count: (_, by = 1, labels = {}) => {
        counted[labels['result'] ?? ''] = (counted[labels['result'] ?? ''] ?? 0) + by
      },
      gauge: () => {},
      observe: () => {},
    },
  })
  return { tracer, counted, said }
}

async function eventually(holds: () => boolean): Promise<void> {
  const end = systemClock.monotonic() + 50_000
  while (!holds()) {
    if (systemClock.monotonic() > end) throw new Error(`not so: ${holds}`)
    await systemClock.sleep(5)
  }
}

describe('the exporter of spans', () => {
  test('sends them as OTLP has it', async () => {
    const at = await collector([])
    const { tracer, counted } = make(at.endpoint)
    tracer.record(span(1))
    tracer.record(span(2))
    await eventually(() => counted['sent'] === 2)
    expect(at.spans()[0]).toEqual({
      traceId: '1'.padStart(32, '0'),
      spanId: '00f067aa0ba902b7',
      flags: 1,
      name: 'span 1',
      kind: 1,
      startTimeUnixNano: '1700000000000250000',
      endTimeUnixNano: '1700000000001000000',
      attributes: [
        { key: 'text', value: { stringValue: 'a' } },
        { key: 'whole', value: { intValue: '3' } },
        { key: 'part', value: { doubleValue: 0.5 } },
        { key: 'yes', value: { boolValue: true } },
      ],
      status: {},
    })
    expect(at.spans()[1]).toMatchObject({ status: { code: 2, message: 'step.timed_out' } })
    await tracer.close()
  })

  test('tries again what may be taken later, and says so once', async () => {
    const at = await collector([503, 429, 502])
    const { tracer, counted, said } = make(at.endpoint)
    tracer.record(span(1))
    await eventually(() => counted['sent'] === 1)
    expect(counted['dropped']).toBe(0)
    expect(said.map((s) => s.level)).toEqual(['warn', 'info'])
    expect(said[0]?.fields).toMatchObject({ code: 'telemetry.exporter_unreachable' })
    await tracer.close()
  })

  test('drops and counts what is refused, and what is not taken after some tries', async () => {
    const at = await collector([400, 503, 503, 503, 503, 503])
    const { tracer, counted } = make(at.endpoint)
    tracer.record(span(1))
    await eventually(() => counted['dropped'] === 1)
    tracer.record(span(2))
    await eventually(() => counted['dropped'] === 2)
    tracer.record(span(3))
    await eventually(() => counted['sent'] === 1)
    await tracer.close()
  })

  test('keeps so many and drops the others, without ever waiting', async () => {
    const at = await collector([])
    const { tracer, counted } = make(at.endpoint)
    for (let n = 0; n < LIMITS.spansQueuedMax + 100; n++) tracer.record(span(n))
    expect(counted['dropped']).toBe(100)
    await tracer.close()
    expect(counted['sent']).toBe(LIMITS.spansQueuedMax)
    tracer.record(span(1))
    expect(counted['dropped']).toBe(101)
  })
})
