export { checkClock } from './clock-rule.ts'
export { checkConfig } from './config-rule.ts'
export { diagnoseHost, diagnoseServer } from './doctor.ts'
export { type CheckName, type DoctorRow, exitOf, fail, inOrder, pass, rowOfFailure, warn } from './doctor-row.ts'
export type {
  ConfigFacts,
  DirectoryFacts,
  HostFacts,
  KeyFileFacts,
  MigrationFacts,
  PortFacts,
  ServerFacts,
  StoreFacts,
  TelemetryFacts,
} from '../domain/installation-facts.ts'
export { checkVersions } from './versions-rule.ts'
