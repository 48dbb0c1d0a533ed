import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { SAMPLERS, type SamplerName } from './sampler.ts'

/** Where spans go, from OpenTelemetry's own variables. */
export interface OtelSettings {
  /** The address that spans are posted to; null: nothing leaves. */
  endpoint: string | null
  headers: Record<string, string>
  serviceName: string
  resource: Record<string, string>
  sampler: SamplerName
  ratio: number
  timeoutMs: number
  /** How long spans gather before they are sent. */
  delayMs: number
  /** File of the certificate authority that the endpoint is trusted by, beside the system's. */
  certificate: string | null
  /** Whether spans of agents have in them what was said. */
  capturesContent: boolean
}

export interface OtelReading {
  settings: OtelSettings
  /** What cannot be done as it was asked; said once, and spans go without it. Never a reason not to start. */
  problems: Failure[]
}

type Env = Record<string, string | undefined>

const DEFAULT_TIMEOUT_MS = 10_000
const DEFAULT_DELAY_MS = 1_000

/** Reads the OTEL_* variables. An empty variable is one that is not set. */
export function readOtelSettings(env: Env, defaults: { serviceName: string; capturesContent?: boolean }): OtelReading {
  const problems: Failure[] = []
  const get = (name: string) => env[name] || undefined
  const ofTraces = (name: string) => get(`OTEL_EXPORTER_OTLP_TRACES_${name}`) ?? get(`OTEL_EXPORTER_OTLP_${name}`)
  const refuse = (name: string, remediation: string) =>
    problems.push(
      new Failure('config.value_unsupported', `reading ${name}`, {
        evidence: { variable: name, value: get(name) ?? '' },
        remediation,
      }),
    )
  const whole = (name: string, fallback: number) => {
    const text = get(name)
    if (text === undefined) return fallback
    if (/^\d{1,9}$/.test(text)) return Number(text)
    refuse(name, 'Use a whole number of milliseconds.')
    return fallback
  }
  const pairs = (name: string, text: string | undefined): Record<string, string> => {
    const read = parsePairs(text ?? '')
    if (read) return read
    refuse(name, 'Use name=value pairs with commas between them, values percent-encoded.')
    return {}
  }
  const flag = (name: string, fallback: boolean) => {
    const text = get(name)?.toLowerCase()
    if (text === undefined) return fallback
    if (text === 'true' || text === 'false') return text === 'true'
    refuse(name, 'Use true or false.')
    return false
  }
  const isOff = get('OTEL_SDK_DISABLED')?.toLowerCase() === 'true' || get('OTEL_TRACES_EXPORTER') === 'none'
  const exporter = get('OTEL_TRACES_EXPORTER')
  if (exporter !== undefined && exporter !== 'otlp' && exporter !== 'none')
    refuse('OTEL_TRACES_EXPORTER', 'Orrery sends OTLP alone: use otlp, or none.')
  const resource = pairs('OTEL_RESOURCE_ATTRIBUTES', get('OTEL_RESOURCE_ATTRIBUTES'))
  return {
    settings: {
      endpoint: isOff ? null : endpointOf(env, problems),
      headers: pairs('OTEL_EXPORTER_OTLP_HEADERS', ofTraces('HEADERS')),
      serviceName: get('OTEL_SERVICE_NAME') ?? resource['service.name'] ?? defaults.serviceName,
      resource,
      ...samplerOf(get, refuse),
      timeoutMs: whole('OTEL_EXPORTER_OTLP_TIMEOUT', DEFAULT_TIMEOUT_MS),
      delayMs: Math.min(whole('OTEL_BSP_SCHEDULE_DELAY', DEFAULT_DELAY_MS), LIMITS.spanDelayMaxMs),
      certificate: ofTraces('CERTIFICATE') ?? null,
      capturesContent: flag('OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT', defaults.capturesContent ?? false),
    },
    problems,
  }
}

function samplerOf(
  get: (name: string) => string | undefined,
  refuse: (name: string, remediation: string) => void,
): { sampler: SamplerName; ratio: number } {
  const given = get('OTEL_TRACES_SAMPLER')
  const sampler = SAMPLERS.find((name) => name === given)
  if (given !== undefined && !sampler) refuse('OTEL_TRACES_SAMPLER', `Use one of ${SAMPLERS.join(', ')}.`)
  const text = get('OTEL_TRACES_SAMPLER_ARG')
  const ratio = text === undefined ? 1 : Number(text)
  const isRatio = ratio >= 0 && ratio <= 1
  if (!isRatio) refuse('OTEL_TRACES_SAMPLER_ARG', 'Use a share from 0 to 1, such as 0.1.')
  return { sampler: sampler ?? 'parentbased_always_on', ratio: isRatio ? ratio : 1 }
}

function endpointOf(env: Env, problems: Failure[]): string | null {
  const own = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || undefined
  const base = env['OTEL_EXPORTER_OTLP_ENDPOINT'] || undefined
  const text = own ?? base
  if (text === undefined) return null
  const variable = own === undefined ? 'OTEL_EXPORTER_OTLP_ENDPOINT' : 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'
  const protocol = env['OTEL_EXPORTER_OTLP_TRACES_PROTOCOL'] || env['OTEL_EXPORTER_OTLP_PROTOCOL'] || 'http/json'
  if (protocol === 'grpc') {
    problems.push(
      new Failure('telemetry.exporter_tls_mismatch', `setting up the export of traces to ${shown(text)}`, {
        evidence: { endpoint: shown(text), protocol },
        remediation:
          'Orrery speaks OTLP over HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/json and give the HTTP port of the collector, usually 4318.',
      }),
    )
    return null
  }
  const url = URL.parse(text)
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    problems.push(
      new Failure('config.value_unsupported', `reading ${variable}`, {
        evidence: { variable, value: shown(text) },
        remediation: 'Write the address as http://host:4318 or https://host:4318.',
      }),
    )
    return null
  }
  return own ?? `${text.replace(/\/+$/, '')}/v1/traces`
}

/** Without what may be a secret: user, password and query. */
export function shown(address: string): string {
  const url = URL.parse(address)
  return url ? `${url.protocol}//${url.host}${url.pathname}` : address.slice(0, 200)
}

function parsePairs(text: string): Record<string, string> | null {
  const read: Record<string, string> = {}
  for (const part of text.split(',')) {
    if (part.trim() === '') continue
    const at = part.indexOf('=')
    if (at < 1) return null
    try {
      read[decodeURIComponent(part.slice(0, at).trim())] = decodeURIComponent(part.slice(at + 1).trim())
    } catch {
      return null
    }
  }
  return read
}
