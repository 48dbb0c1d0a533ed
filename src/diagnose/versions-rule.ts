import { compatibleWith, versionSkew } from '../domain/version-skew.ts'
import { type DoctorRow, fail, pass, warn } from './doctor-row.ts'
import type { VersionFacts } from '../domain/installation-facts.ts'

/** CLI, servers and workers beside this server: what works together, what does not for long, what not at all. */
export function checkVersions(v: VersionFacts): DoctorRow[] {
  const parts = [
    ...(v.cli === null ? [] : [{ subject: 'CLI', key: 'cli', version: v.cli }]),
    ...v.servers.map((s) => ({ subject: `server ${s.id}`, key: 'other', version: s.version })),
    ...v.workers.map((w) => ({ subject: `worker ${w.worker}`, key: 'worker', version: w.version })),
  ]
  const rows = parts.flatMap(({ subject, key, version }) => {
    const skew = versionSkew(version, v.server)
    if (skew === 'same' || skew === 'patch') return []
    const row = skew === 'incompatible' ? fail : warn
    return [
      row('versions', subject, {
        code: 'version.skew',
        message: `is ${version}, the server is ${v.server}${skew === 'minor' ? '; they work together for the time of an upgrade' : '; they do not work together'}`,
        evidence: { [key]: version, server: v.server, skew, compatible: compatibleWith(v.server) },
      }),
    ]
  })
  if (rows.length > 0) return rows
  return [
    pass('versions', v.server, {
      message: `${parts.length + 1} part${parts.length === 0 ? '' : 's'} of one version`,
      evidence: { server: v.server },
    }),
  ]
}
