import { formatDuration } from '../base/duration.ts'
import { type DoctorRow, pass, warn } from './doctor-row.ts'
import type { BusFacts } from '../domain/installation-facts.ts'

const whole = (ms: number): string => formatDuration(Math.max(0, Math.round(ms / 1000) * 1000))

/** Whether servers over one store wake each other. One that hears nothing works on, by its own ticks alone. */
export function checkBus({ hearing, others }: BusFacts): DoctorRow[] {
  const deaf = others.flatMap(({ id, deafMs }) => (deafMs === null ? [] : [{ id, deafMs }]))
  const rows = deaf.map(({ id, deafMs }) =>
    warn('bus', `server ${id}`, {
      code: 'bus.unreachable',
      message: `has heard nothing of the other servers for ${whole(deafMs)}`,
      evidence: { server: id, deafMs: Math.round(deafMs) },
    }),
  )
  if (hearing.kind === 'unknown') return rows
  if (hearing.kind === 'deaf' && others.length > 0) {
    const evidence = { deafMs: Math.round(hearing.forMs), error: hearing.error, servers: others.length + 1 }
    const message = `has heard nothing of ${others.length} other server${others.length === 1 ? '' : 's'} for ${whole(hearing.forMs)}`
    return [warn('bus', 'this server', { code: 'bus.unreachable', message, evidence }), ...rows]
  }
  const own =
    hearing.kind === 'deaf'
      ? `cannot be reached (${hearing.error}); there is no other server to hear of`
      : `what is sent is heard after ${Math.round(hearing.latencyMs * 10) / 10} ms`
  return [pass('bus', 'this server', { message: own }), ...rows]
}
