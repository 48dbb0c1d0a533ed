import { type DoctorRow, pass, warn } from './doctor-row.ts'
import type { ModelFacts } from '../domain/installation-facts.ts'

/** Whether a model endpoint finds what it names: its secrets, its fallbacks, its prices. Nobody is called. */
export function checkModel(m: ModelFacts): DoctorRow[] {
  const about = `${m.provider} ${m.model}`
  const rows = [
    ...m.secrets.map((failure) =>
      warn('models', m.endpoint, {
        code: failure.code,
        message: `${about}: ${failure.message}`,
        evidence: failure.evidence ?? {},
        remedy: failure.remediation,
      }),
    ),
    ...m.dangling.map(({ field, name }) =>
      warn('models', m.endpoint, {
        code: 'resource.not_found',
        message: `${about}: ${field} names ${name}, which is not there`,
        evidence: { field, name },
        remedy: `Apply ${name} in the same namespace, or take it out of ${field}.`,
      }),
    ),
  ]
  return rows.length > 0 ? rows : [pass('models', m.endpoint, { message: `${about}: finds what it names` })]
}
