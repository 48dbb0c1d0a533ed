import { describe, expect, test } from 'vitest'
import { readOtelSettings } from './otel-settings.ts'
import { createSampler, SAMPLERS } from './sampler.ts'

const read = (env: Record<string, string>) => readOtelSettings(env, { serviceName: 'orrery-server' })

describe('variables of OpenTelemetry', () => {
  test('that are not set, or empty, let nothing leave', () => {
    for (const env of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: '' }])
      expect(read(env)).toMatchObject({
        settings: { endpoint: null, serviceName: 'orrery-server', sampler: 'parentbased_always_on', ratio: 1 },
        problems: [],
      })
  })

  test('say where spans go: the base with the path behind it, or the address of traces as it is', () => {
    const base = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318/otlp/' }
    expect(read(base).settings.endpoint).toBe('http://c:4318/otlp/v1/traces')
    expect(read({ ...base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://t.example/in' }).settings.endpoint).toBe(
      'https://t.example/in',
    )
  })

  test.for([{ OTEL_SDK_DISABLED: 'true' }, { OTEL_TRACES_EXPORTER: 'none' }])('turn it off: %o', (off) => {
    const env: Record<string, string> = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', ...off }
    expect(read(env)).toMatchObject({ settings: { endpoint: null }, problems: [] })
  })

  test('say what goes along', () => {
    const { settings } = read({
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20x, tenant=a',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=prod,service.name=named',
      OTEL_EXPORTER_OTLP_TIMEOUT: '500',
      OTEL_BSP_SCHEDULE_DELAY: '250',
      OTEL_EXPORTER_OTLP_CERTIFICATE: '/etc/ca.pem',
    })
    expect(settings).toMatchObject({
      headers: { authorization: 'Bearer x', tenant: 'a' },
      serviceName: 'named',
      resource: { 'deployment.environment': 'prod' },
      timeoutMs: 500,
      delayMs: 250,
      certificate: '/etc/ca.pem',
    })
    expect(read({ OTEL_SERVICE_NAME: 'mine' }).settings.serviceName).toBe('mine')
  })

  test.for([
    ['OTEL_TRACES_SAMPLER', 'sometimes'],
    ['OTEL_TRACES_SAMPLER_ARG', '2'],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', 'soon'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'nothing'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'c:4318'],
    ['OTEL_TRACES_EXPORTER', 'zipkin'],
    ['OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT', 'perhaps'],
  ] as const)('that make no sense are named and passed over: %s=%s', ([name, value]) => {
    const { problems } = read({ [name]: value })
    expect(problems.map((p) => p.toRecord())).toMatchObject([
      { code: 'config.value_unsupported', evidence: { variable: name }, remediation: expect.any(String) },
    ])
  })

  test('say whether spans have in them what was said: no, unless it is asked for', () => {
    const name = 'OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT'
    const captures = (env: Record<string, string>, capturesContent?: boolean) =>
      readOtelSettings(env, { serviceName: 's', ...(capturesContent === undefined ? {} : { capturesContent }) })
        .settings.capturesContent
    expect(captures({})).toBe(false)
    expect(captures({ [name]: 'TRUE' })).toBe(true)
    expect(captures({}, true)).toBe(true)
    expect(captures({ [name]: 'false' }, true)).toBe(false)
    expect(captures({ [name]: 'perhaps' }, true)).toBe(false)
  })

  test('show no secret of an address', () => {
    const { problems } = read({
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://u:hunter2@c:4317?key=hunter2',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    })
    expect(problems).toHaveLength(1)
    expect(JSON.stringify(problems[0]?.toRecord())).not.toContain('hunter2')
  })
})

describe('sampling', () => {
  const context = (n: number, sampled: boolean) => ({
    traceId: n.toString(16).padStart(32, '0'),
    spanId: '00f067aa0ba902b7',
    sampled,
  })
  const share = (take: (n: number) => boolean) =>
    Array.from({ length: 2000 }, (_, n) => take(n)).filter(Boolean).length / 2000

  test.for(SAMPLERS)('%s does as it is called', (name) => {
    const sampler = createSampler(name, 0.25)
    const root = share((n) => sampler.samplesRoot(context(n, true).traceId))
    const [yes, no] = [true, false].map((sampled) => share((n) => sampler.samplesChild(context(n, sampled))))
    const expected = name.endsWith('on') ? 1 : name.endsWith('off') ? 0 : 0.25
    expect(root).toBeCloseTo(expected, 1)
    if (name.startsWith('parentbased')) expect([yes, no]).toEqual([1, 0])
    else expect([yes, no]).toEqual([root, root])
  })

  test('gives the same trace the same answer', () => {
    const [a, b] = [createSampler('traceidratio', 0.5), createSampler('parentbased_traceidratio', 0.5)]
    for (let n = 0; n < 100; n++) {
      const { traceId } = context(n, true)
      expect(a.samplesRoot(traceId)).toBe(b.samplesRoot(traceId))
    }
  })
})
