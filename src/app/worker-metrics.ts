import type { Log } from '../base/index.ts'
import { Failure } from '../domain/index.ts'
import { checkReach, type MetricsServer, type Prometheus, serveMetrics } from '../telemetry/index.ts'
import { isInContainer } from './host.ts'

/** Gives the metrics of a worker. Where that cannot be, the log says so and the worker works without: null. */
export async function serveWorkerMetrics(
  prometheus: Prometheus,
  at: { host: string; port: number },
  log: Log,
): Promise<MetricsServer | null> {
  const tell = (failure: Failure) => {
    const { code, evidence, remediation } = failure.toRecord()
    log.warn('metrics cannot be read', { code, ...evidence, remediation })
  }
  const unreachable = checkReach(at.host, { isContainer: isInContainer() })
  if (unreachable) tell(unreachable)
  try {
    return await serveMetrics(prometheus.source, at)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    tell(error)
    return null
  }
}
