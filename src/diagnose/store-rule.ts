import { LIMITS } from '../domain/limits.ts'
import { type DoctorRow, fail, pass, rowOfFailure, warn } from './doctor-row.ts'
import type { MigrationFacts, StoreFacts } from '../domain/installation-facts.ts'

/** Whether the store answers, how fast, and who has it open. */
export function checkStore(s: StoreFacts): DoctorRow {
  switch (s.kind) {
    case 'unreachable':
      return rowOfFailure('fail', 'store', 'postgres', s.failure)
    case 'embedded': {
      const subject = `embedded in ${s.dataDir}`
      if (s.owner && s.owner.isAlive !== false) {
        return pass('store', subject, {
          message: `open in process ${s.owner.pid}`,
          evidence: { pid: s.owner.pid },
        })
      }
      const left = s.owner ? `; process ${s.owner.pid} left its lock, which the next start takes over` : ''
      const message = s.hasDatabase ? `not open${left}` : `not there yet; the first start makes it${left}`
      return pass('store', subject, { message, evidence: s.owner ? { stalePid: s.owner.pid } : {} })
    }
    case 'open': {
      const evidence = { version: s.version, latencyMs: Math.round(s.latencyMs * 10) / 10 }
      const name = s.engine === 'pglite' ? 'embedded' : 'postgres'
      if (s.latencyMs > LIMITS.storeSlowMs) {
        return warn('store', name, {
          code: 'storage.slow',
          message: `answers after ${Math.round(s.latencyMs)} ms`,
          evidence: { ...evidence, warnsAboveMs: LIMITS.storeSlowMs },
        })
      }
      return pass('store', name, { message: `answers after ${evidence.latencyMs} ms (${s.version})`, evidence })
    }
  }
}

/** Whether the tables are those that this build works with. */
export function checkMigrations(m: MigrationFacts): DoctorRow[] {
  const rows: DoctorRow[] = []
  const breaking = m.newer.find((n) => n.breaking)
  if (breaking) {
    rows.push(
      fail('migrations', breaking.name, {
        code: 'storage.schema_newer',
        message: `the database was migrated by ${breaking.version}`,
        evidence: { migration: breaking.name, appliedBy: breaking.version },
        remedy: `Start Orrery ${breaking.version} or newer; this build writes nothing.`,
      }),
    )
  }
  if (m.changed.length > 0) {
    rows.push(
      fail('migrations', m.changed.join(', '), {
        code: 'storage.schema_drift',
        message: 'applied with another text than this build has',
        evidence: { migrations: [...m.changed] },
        remedy: 'Use the build that made this database, or restore the files of the migrations.',
      }),
    )
  }
  // What a newer build added is no drift.
  if (m.newer.length === 0 && m.pending.length === 0 && m.missing.length > 0) {
    rows.push(
      fail('migrations', 'schema', {
        code: 'storage.schema_drift',
        message: `${m.missing.length} object${m.missing.length === 1 ? '' : 's'} missing or changed by hand`,
        evidence: { missing: m.missing.slice(0, 20), found: m.extra.slice(0, 20) },
      }),
    )
  } else if (m.newer.length === 0 && m.pending.length === 0 && m.extra.length > 0) {
    rows.push(
      warn('migrations', 'schema', {
        code: 'storage.schema_drift',
        message: `${m.extra.length} object${m.extra.length === 1 ? '' : 's'} that no migration made`,
        evidence: { extra: m.extra.slice(0, 20) },
        remedy: 'Nothing is broken by them; remove them when they are not wanted.',
      }),
    )
  }
  if (rows.length > 0) return rows
  if (m.pending.length > 0) {
    return [
      pass('migrations', m.pending.join(', '), {
        message: `${m.pending.length} to be applied by the next start of this build`,
        evidence: { pending: [...m.pending] },
      }),
    ]
  }
  const newer = m.newer.length > 0 ? `; ${m.newer.length} of a newer build, which this one can live with` : ''
  return [pass('migrations', 'schema', { message: `as this build wants it${newer}` })]
}
