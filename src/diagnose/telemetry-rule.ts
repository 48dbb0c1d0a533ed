import { type DoctorRow, pass, warn } from './doctor-row.ts'
import type { TelemetryFacts } from '../domain/installation-facts.ts'

/** The place that traces go to, where one is set; null: none is. */
export function checkTelemetry(t: TelemetryFacts | null): DoctorRow {
  if (t === null) return pass('telemetry', 'traces', { message: 'no endpoint is set; nothing is exported' })
  if (t.error === null) return pass('telemetry', t.endpoint, { message: `reachable (${t.from})` })
  return warn('telemetry', t.endpoint, {
    code: 'telemetry.exporter_unreachable',
    message: `cannot be reached (${t.error})`,
    evidence: { endpoint: t.endpoint, from: t.from, error: t.error },
  })
}
