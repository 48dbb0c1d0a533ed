import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkExporter } from '../../src/telemetry/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { type ReceivedSpan, startReceiver } from '../support/otlp-receiver.ts'
import { doc, yamlOf } from './agents.ts'
import { linesOf, startObserved } from './observed.ts'
import { endedRun, makeDir, WITHIN, workflowOf } from './rig.ts'

const STEPS = [
  { name: 'first', function: 't.echo', with: 1 },
  { name: 'then', command: 'echo "{\\"seen\\": \\"$TRACEPARENT\\"}" > $ORRERY_OUTPUT', needs: ['first'] },
]
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'
const QUICK = { OTEL_BSP_SCHEDULE_DELAY: '50' }

const metric = async (address: string, line: string): Promise<number> => {
  const text = await (await fetch(`${address}/metrics`)).text()
  const found = text.split('\n').find((l) => l.startsWith(`${line} `))
  return found === undefined ? Number.NaN : Number(found.slice(line.length + 1))
}

function certificate(): { key: string; cert: string } {
  const dir = makeDir()
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '1',
      '-subj',
      '/CN=localhost',
    ],
    { stdio: 'ignore' },
  )
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
}

describe('OBS-1: traces', () => {
  test('of a run go from its request through its worker, each span below the right one', async () => {
    const receiver = await startReceiver()
    const { up } = await startObserved({
      env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b' },
    })
    const { id } = await up.client.createRun({ workflow: workflowOf(STEPS) })
    const run = await endedRun(up.client, id)
    expect(run.state).toBe('succeeded')
    const named = (name: string) => receiver.spans.find((s) => s.name === name && s.attributes['orrery.run_id'] === id)
    const spans = await eventually(() => {
      const found = ['POST /v1/runs', 'run scenario', 'step first', 'step then'].map(named)
      return found.every((s) => s !== undefined) ? (found as ReceivedSpan[]) : null // just looked at
    }, WITHIN)
    const [request, whole, first, then] = spans as [ReceivedSpan, ReceivedSpan, ReceivedSpan, ReceivedSpan]
    expect(new Set(spans.map((s) => s.traceId)).size).toBe(1)
    expect(request).toMatchObject({ parentSpanId: null, service: 'orrery-server', kind: 2 })
    expect(whole).toMatchObject({ parentSpanId: request.spanId, service: 'orrery-server' })
    expect(first).toMatchObject({ parentSpanId: whole.spanId, service: 'orrery-worker', kind: 5, failed: false })
    expect(then.parentSpanId).toBe(whole.spanId)
    expect(whole.durationMs).toBeGreaterThanOrEqual(then.durationMs)
    // A flush is seen below the request that waited for it.
    const flush = await eventually(() => receiver.spans.find((s) => s.name === 'flush create'), WITHIN)
    expect(flush).toMatchObject({ traceId: request.traceId, parentSpanId: request.spanId })
    // The command was told who it is.
    const { items } = await up.client.listSteps(id)
    expect(items.find((s) => s.name === 'then')?.output).toEqual({ seen: `00-${then.traceId}-${then.spanId}-01` })
    expect(receiver.headers[0]).toMatchObject({ 'x-key': 'a b' })
    expect(await metric(up.address, 'orrery_spans_total{result="sent"}')).toBeGreaterThan(0)
  })

  test('of an agent have a span for each call of a model and of a tool, with tokens and cost and nothing of what was said', async () => {
    const receiver = await startReceiver()
    const { up } = await startObserved({ env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint } })
    const replies = [{ toolCalls: [{ name: 'nothing', input: { at: 'a hidden place' } }] }, { text: 'a hidden answer' }]
    await up.client.resources.apply(
      yamlOf([
        doc('PriceTable', 'prices', { currency: 'USD', rows: [{ model: '*', input: 10, output: 20 }] }),
        doc('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', prices: 'prices', mock: { replies } }),
        doc('Agent', 'writer', { model: 'gpt', instructions: 'You know a hidden thing.' }),
        doc('Workflow', 'ask', { steps: [{ name: 'write', agent: 'writer', with: { prompt: 'a hidden question' } }] }),
      ]),
    )
    const { id } = await up.client.createRun({ workflowRef: 'ask', inputs: {} })
    expect((await endedRun(up.client, id)).state).toBe('succeeded')
    const spans = await eventually(() => {
      const chats = receiver.spans.filter((span) => span.name === 'chat m')
      const step = receiver.spans.find((span) => span.name === 'step write')
      return chats.length === 2 && step ? { chats, step } : null
    }, WITHIN)
    expect(spans.step.attributes).toMatchObject({
      'gen_ai.operation.name': 'invoke_agent',
      'gen_ai.agent.name': 'writer',
    })
    for (const chat of spans.chats) {
      expect(chat).toMatchObject({
        parentSpanId: spans.step.spanId,
        traceId: spans.step.traceId,
        service: 'orrery-worker',
      })
      expect(chat.attributes).toMatchObject({ 'gen_ai.provider.name': 'mock', 'orrery.cost.currency': 'USD' })
    }
    expect(JSON.stringify(receiver.spans)).not.toContain('hidden')
  })

  test('that came with the caller go on, from the environment of the command line to that of the step', async () => {
    const receiver = await startReceiver()
    const scene = await startObserved({ env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint } })
    const response = await fetch(`${scene.up.address}/v1/runs`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${scene.up.token}`,
        'content-type': 'application/json',
        traceparent: `00-${TRACE}-${SPAN}-01`,
      },
      body: JSON.stringify({ workflow: workflowOf(STEPS) }),
    })
    const { id } = (await response.json()) as { id: string } // a run was created
    await endedRun(scene.up.client, id)
    const of = (name: string) => receiver.spans.find((s) => s.name === name && s.attributes['orrery.run_id'] === id)
    const then = await eventually(() => of('step then'), WITHIN)
    const whole = await eventually(() => of('run scenario'), WITHIN)
    const request = await eventually(() => of('POST /v1/runs'), WITHIN)
    expect([request.traceId, whole.traceId, then.traceId]).toEqual([TRACE, TRACE, TRACE])
    expect(request.parentSpanId).toBe(SPAN)
    expect(whole.parentSpanId).toBe(request.spanId)
    expect(then.parentSpanId).toBe(whole.spanId)
    const shown = await scene.orrery(['runs', 'show', id], { TRACEPARENT: `00-${TRACE}-${SPAN}-01` })
    expect(shown.code).toBe(0)
    await eventually(
      () =>
        receiver.spans.find((s) => s.name === 'GET /v1/runs/{id}' && s.traceId === TRACE && s.parentSpanId === SPAN),
      WITHIN,
    )
  })

  test('that the caller does not sample are not sent, and those that OTEL_TRACES_SAMPLER leaves out neither', async () => {
    const receiver = await startReceiver()
    const { up } = await startObserved({
      env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, OTEL_TRACES_SAMPLER: 'parentbased_always_off' },
    })
    const { id } = await up.client.createRun({ workflow: workflowOf(STEPS) })
    const run = await endedRun(up.client, id)
    expect(run.state).toBe('succeeded')
    const { items } = await up.client.listSteps(id)
    expect(items.find((s) => s.name === 'then')?.output).toEqual({ seen: expect.stringMatching(/-00$/) })
    expect(receiver.spans).toEqual([])
  })

  test('telemetry.exporter_unset: nothing is sent, and a check says so', async () => {
    expect((await checkExporter(null))?.toRecord()).toMatchObject({
      code: 'telemetry.exporter_unset',
      remediation: expect.stringContaining('OTEL_EXPORTER_OTLP_ENDPOINT'),
    })
  })

  test('telemetry.exporter_unreachable: work goes on at once, one line says it, spans are counted, and come when it is back', async () => {
    const port = await freePort()
    const { up, worker } = await startObserved({
      env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
    })
    for (let i = 0; i < 5; i++) {
      const { id } = await up.client.createRun({ workflow: workflowOf(STEPS) })
      expect((await endedRun(up.client, id)).state).toBe('succeeded')
    }
    const warned = (text: string) => linesOf(text).filter((l) => l['code'] === 'telemetry.exporter_unreachable')
    await eventually(() => warned(up.process.stderr()).length > 0 && warned(worker.stderr()).length > 0, WITHIN)
    expect(warned(up.process.stderr())).toMatchObject([
      { level: 'warn', message: expect.stringContaining('work goes on'), remediation: expect.any(String) },
    ])
    expect(
      (await checkExporter({ endpoint: `http://127.0.0.1:${port}/v1/traces`, headers: {}, timeoutMs: 5_000, ca: null }))
        ?.code,
    ).toBe('telemetry.exporter_unreachable')
    const receiver = await startReceiver({ port })
    await eventually(() => receiver.spans.some((s) => s.name === 'run scenario'), WITHIN)
    await eventually(() => linesOf(up.process.stderr()).some((l) => l['message'] === 'traces are sent again'), WITHIN)
    expect(warned(up.process.stderr())).toHaveLength(1)
  })

  test('telemetry.exporter_unreachable: a collector that refuses loses spans, and they are counted', async () => {
    const receiver = await startReceiver({ status: 401 })
    const { up } = await startObserved({ env: { ...QUICK, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint } })
    const { id } = await up.client.createRun({ workflow: workflowOf(STEPS) })
    await endedRun(up.client, id)
    await eventually(async () => (await metric(up.address, 'orrery_spans_total{result="dropped"}')) > 0, WITHIN)
  })

  test.for([
    ['https to a collector without TLS', 'https://', false],
    ['http to one with TLS', 'http://', true],
    ['a certificate that nobody vouches for', 'https://', true],
  ] as const)('telemetry.exporter_tls_mismatch: %s', async ([, scheme, isTls]) => {
    const receiver = await startReceiver(isTls ? { tls: certificate() } : {})
    const endpoint = `${scheme}${receiver.endpoint.replace(/^https?:\/\//, '')}/v1/traces`
    const failure = await checkExporter({ endpoint, headers: {}, timeoutMs: 5_000, ca: null })
    expect(failure?.toRecord()).toMatchObject({
      code: 'telemetry.exporter_tls_mismatch',
      evidence: { endpoint },
      remediation: expect.stringMatching(/http:\/\/|https:\/\/|CERTIFICATE/),
    })
  })

  test('telemetry.exporter_tls_mismatch: the protocol of gRPC is asked for; the server says so and runs', async () => {
    const { up } = await startObserved({
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4317', OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
    })
    expect(linesOf(up.process.stderr())).toContainEqual(
      expect.objectContaining({ code: 'telemetry.exporter_tls_mismatch', protocol: 'grpc' }),
    )
    const { id } = await up.client.createRun({ workflow: workflowOf(STEPS) })
    expect((await endedRun(up.client, id)).state).toBe('succeeded')
  })
})

test('a trusted authority is all that TLS needs', async () => {
  const tls = certificate()
  const receiver = await startReceiver({ tls })
  const endpoint = `${receiver.endpoint.replace('127.0.0.1', 'localhost')}/v1/traces`
  expect(await checkExporter({ endpoint, headers: {}, timeoutMs: 5_000, ca: tls.cert })).toBeNull()
})
