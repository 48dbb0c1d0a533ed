import { type DoctorRow, fail, pass } from './doctor-row.ts'
import type { PortFacts } from '../domain/installation-facts.ts'

/** The port that a server of these settings would listen on. */
export function checkPort(p: PortFacts): DoctorRow {
  const subject = `${p.host}:${p.port}`
  if (p.state === 'free') return pass('ports', subject, { message: 'free' })
  if (p.state === 'refused') {
    return fail('ports', subject, {
      code: 'config.value_unsupported',
      message: `cannot be listened on (${p.error ?? ''})`,
      evidence: { host: p.host, port: p.port, error: p.error },
      remedy:
        p.error === 'EACCES'
          ? 'Ports below 1024 need a privilege; choose a higher one with --port.'
          : 'Choose an address of this host with --host.',
    })
  }
  const heldBy = p.holder ? { heldBy: { pid: p.holder.pid, name: p.holder.name } } : {}
  const by = p.holder ? `process ${p.holder.pid} (${p.holder.name})` : 'another process'
  if (p.orrery !== null) {
    return pass('ports', subject, { message: `held by Orrery ${p.orrery}`, evidence: { orrery: p.orrery, ...heldBy } })
  }
  return fail('ports', subject, {
    code: 'config.port_in_use',
    message: `held by ${by}, which is no Orrery`,
    evidence: { host: p.host, port: p.port, ...heldBy },
    remedy: p.holder
      ? `Stop process ${p.holder.pid} (${p.holder.name}), or choose another port with --port.`
      : 'Stop the process that holds it, or choose another port with --port.',
  })
}
