import { Failure } from '../domain/failure.ts'
import { parseExposition } from './exposition.ts'

export type MetricsCheck =
  | { kind: 'ok'; version: string; families: number }
  /** `telemetry.metrics_unreachable` or `telemetry.metrics_disabled`. */
  | { kind: 'failed'; failure: Failure }

/** Scrapes an address (`…/metrics`) as Prometheus would; for checks of an installation. Never throws. */
export async function checkMetrics(address: string, { timeoutMs }: { timeoutMs: number }): Promise<MetricsCheck> {
  const what = `scraping ${address}`
  let status: number
  let text: string
  try {
    const response = await fetch(address, { signal: AbortSignal.timeout(timeoutMs), redirect: 'manual' })
    status = response.status
    text = await response.text()
  } catch (error) {
    const reason = causeOf(error)
    return failed('telemetry.metrics_unreachable', what, { address, error: reason }, error)
  }
  if (status === 404) return failed('telemetry.metrics_disabled', what, { address, status })
  if (status !== 200)
    return failed('telemetry.metrics_unreachable', what, { address, status, answer: text.slice(0, 200) })
  try {
    const families = parseExposition(text)
    const version = families.get('orrery_build_info')?.samples[0]?.labels['version']
    // Metrics of something else, or of another build that has none of ours.
    if (version === undefined)
      return failed('telemetry.metrics_disabled', what, { address, families: [...families.keys()].slice(0, 5) })
    return { kind: 'ok', version, families: families.size }
  } catch (error) {
    return failed('telemetry.metrics_disabled', what, { address, answer: text.slice(0, 100) }, error)
  }
}

function failed(
  code: 'telemetry.metrics_unreachable' | 'telemetry.metrics_disabled',
  what: string,
  evidence: Record<string, string | number | string[]>,
  cause?: unknown,
): MetricsCheck {
  return { kind: 'failed', failure: new Failure(code, what, { evidence, ...(cause === undefined ? {} : { cause }) }) }
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : null
  if (cause instanceof Error && 'code' in cause) return String(cause.code)
  return error instanceof Error ? error.message : String(error)
}
