import { formatDuration } from '../base/duration.ts'
import { LIMITS } from '../domain/limits.ts'
import { type DoctorRow, pass, warn } from './doctor-row.ts'
import type { ClockFacts } from '../domain/installation-facts.ts'

/** Two clocks of the installation; those of workers are judged with the workers. */
export function checkClock(c: ClockFacts): DoctorRow {
  const off = formatDuration(Math.abs(Math.round(c.skewMs)))
  const evidence = { skewMs: Math.round(c.skewMs), limitMs: LIMITS.clockSkewMs }
  if (Math.abs(c.skewMs) <= LIMITS.clockSkewMs) return pass('clock', c.between, { message: `${off} apart`, evidence })
  return warn('clock', c.between, {
    code: 'host.clock_skew',
    message: `${off} apart: the first is ${c.skewMs > 0 ? 'ahead' : 'behind'}`,
    evidence,
  })
}
