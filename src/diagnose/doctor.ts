import { checkApprovals } from './approvals-rule.ts'
import { checkBudget } from './budgets-rule.ts'
import { checkBus } from './bus-rule.ts'
import { checkClock } from './clock-rule.ts'
import { checkDirectory } from './disk-rule.ts'
import { type DoctorRow, inOrder } from './doctor-row.ts'
import type { HostFacts, ServerFacts } from '../domain/installation-facts.ts'
import { checkKeyFile } from './key-file-rule.ts'
import { checkModel } from './models-rule.ts'
import { checkPort } from './port-rule.ts'
import { checkMigrations, checkStore } from './store-rule.ts'
import { checkTelemetry } from './telemetry-rule.ts'
import { checkVersions } from './versions-rule.ts'
import { checkWorkerClocks, checkWorkers } from './workers-rule.ts'

/** Rows of what a host tells of itself. */
export function diagnoseHost(h: HostFacts): DoctorRow[] {
  return inOrder([
    ...(h.store ? [checkStore(h.store)] : []),
    ...(h.migrations ? checkMigrations(h.migrations) : []),
    ...h.directories.map(checkDirectory),
    ...(h.port ? [checkPort(h.port)] : []),
    ...h.keyFiles.map(checkKeyFile),
    checkTelemetry(h.telemetry),
  ])
}

/** Rows of what a server knows of the installation. */
export function diagnoseServer(s: ServerFacts): DoctorRow[] {
  return inOrder([
    checkStore(s.store),
    ...(s.migrations ? checkMigrations(s.migrations) : []),
    ...s.clocks.map(checkClock),
    ...(s.bus ? checkBus(s.bus) : []),
    ...(s.approvals ? checkApprovals(s.approvals) : []),
    ...checkWorkerClocks(s.workers),
    ...checkWorkers(s.workers, s.refusals),
    ...s.models.flatMap(checkModel),
    ...s.budgets.flatMap(checkBudget),
    ...checkVersions({ cli: null, server: s.version, servers: s.servers, workers: s.workers }),
  ])
}
