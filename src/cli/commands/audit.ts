import type { CliDeps } from '../deps.ts'
import { LIMITS } from '../../domain/limits.ts'
import { instantOf } from '../instant.ts'
import type { Output } from '../output.ts'
import { printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface AuditFlags extends ServerFlags {
  actor?: string
  action?: string
  object?: string
  denied?: boolean
  namespace?: string
  since?: string
  limit: string
}

/** `orrery audit`: who changed, or was refused, what; the newest first. */
export async function listAudit(deps: CliDeps, output: Output, flags: AuditFlags): Promise<number> {
  const limit = Number(flags.limit)
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.pageMax)
    throw usageFailure(`--limit ${flags.limit} is not a whole number from 1 to ${LIMITS.pageMax}`)
  const { actor, action, object, namespace, since } = flags
  const client = await connect(deps, flags)
  const page = await client.listAudit({
    limit,
    ...(actor === undefined ? {} : { actor }),
    ...(action === undefined ? {} : { action }),
    ...(object === undefined ? {} : { object }),
    ...(namespace === undefined ? {} : { namespace }),
    ...(since === undefined ? {} : { since: new Date(instantOf(deps, since)).toISOString() }),
    ...(flags.denied ? { outcome: 'denied' as const } : {}),
  })
  if (output.isData) {
    output.printData({ entries: page.items, next: page.next })
    return 0
  }
  if (page.items.length === 0) {
    output.remark('Nothing of this kind is in the part of the audit log that you may see.')
    return 0
  }
  const columns = ['AT', 'WHO', 'ACTION', 'OBJECT', 'NAMESPACE', 'OUTCOME', 'FROM'].map((title) => ({ title }))
  const more = ['ID', 'ROLE', 'REQUEST', 'DETAILS'].map((title) => ({ title, wide: true }))
  const rows = page.items.map((entry) => [
    { text: entry.at },
    { text: printableLine(entry.actor.name ?? entry.actor.id) },
    { text: entry.action },
    { text: printableLine(entry.object ?? '-') },
    { text: entry.namespace ?? '-' },
    { text: entry.outcome, style: entry.outcome === 'denied' ? ('warn' as const) : ('good' as const) },
    { text: entry.address ?? '-' },
    { text: entry.id },
    { text: entry.actor.role ?? '-' },
    { text: printableLine(entry.requestId ?? '-') },
    { text: entry.details ? printableLine(JSON.stringify(entry.details)) : '-' },
  ])
  output.printTable([...columns, ...more], rows)
  if (page.next !== null) output.remark(`Older entries are not shown; --limit goes up to ${LIMITS.pageMax}.`)
  return 0
}
