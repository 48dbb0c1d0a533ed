import { formatDuration } from '../base/duration.ts'
import { type FailureRecord, failureRecord } from './failure.ts'
import { LIMITS } from './limits.ts'
import { compatibleWith, versionSkew } from './version-skew.ts'

/** What is wrong with a worker that works all the same: pure, from what it told when it registered and with its heartbeats. */
export function workerProblems(facts: {
  worker: string
  clockSkewMs: number
  version: string
  serverVersion: string
}): FailureRecord[] {
  const { worker, clockSkewMs, version, serverVersion } = facts
  const problems: FailureRecord[] = []
  if (Math.abs(clockSkewMs) > LIMITS.clockSkewMs) {
    const direction = clockSkewMs > 0 ? 'ahead of' : 'behind'
    problems.push(
      failureRecord(
        'worker.clock_skew',
        `the clock of worker ${worker} is ${formatDuration(Math.abs(clockSkewMs))} ${direction} that of the server`,
        { evidence: { worker, skewMs: clockSkewMs, limitMs: LIMITS.clockSkewMs } },
      ),
    )
  }
  const skew = versionSkew(version, serverVersion)
  // A patch apart is no difference that anybody has to mend.
  if (skew === 'minor' || skew === 'incompatible') {
    problems.push(
      failureRecord('version.skew', `worker ${worker} is ${version}, the server ${serverVersion}`, {
        evidence: { worker: version, server: serverVersion, skew, compatible: compatibleWith(serverVersion) },
      }),
    )
  }
  return problems
}
