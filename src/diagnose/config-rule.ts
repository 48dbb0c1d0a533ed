import { type DoctorRow, fail, pass, warn } from './doctor-row.ts'
import type { ConfigFacts } from '../domain/installation-facts.ts'

/** The settings of this place: which file, flag or variable gave what, and what is wrong with them. */
export function checkConfig(f: ConfigFacts): DoctorRow[] {
  const rows = f.problems.map((problem) => {
    const place = [problem.file, problem.line, problem.column].filter((part) => part !== undefined).join(':')
    return fail('config', place === '' ? problem.path : `${place} ${problem.path}`, {
      code: problem.code,
      message: problem.message,
      evidence: { path: problem.path, ...(problem.nearest ? { nearest: problem.nearest } : {}) },
      ...(problem.nearest ? { remedy: `Did you mean ${problem.nearest}?` } : {}),
    })
  })
  for (const { name, nearest } of f.unknownVariables) {
    rows.push(
      warn('config', name, {
        code: 'config.key_unknown',
        message: `there is no variable ${name}; it has no effect`,
        evidence: nearest === null ? {} : { nearest },
        remedy: nearest === null ? 'Take it out of the environment.' : `Did you mean ${nearest}?`,
      }),
    )
  }
  if (rows.length > 0) return rows
  const n = Object.keys(f.given).length
  const message = n === 0 ? 'all settings are at their defaults' : `${n} setting${n === 1 ? '' : 's'} given, no problem`
  return [pass('config', f.file ?? 'settings', { message, evidence: f.given })]
}
