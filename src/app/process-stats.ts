import { systemClock } from '../base/index.ts'
import type { Prometheus } from '../telemetry/index.ts'

/** How often the event loop is asked whether it is late. */
const LAG_SAMPLE_MS = 1_000

/** Measures this process for its metrics. Gives what ends that. */
export function watchProcess(prometheus: Prometheus): () => void {
  const { metrics } = prometheus
  const stopping = new AbortController()
  const startedAt = systemClock.now() - process.uptime() * 1000
  let worstLagMs = 0
  const sample = async () => {
    while (!stopping.signal.aborted) {
      const from = systemClock.monotonic()
      await systemClock.sleep(LAG_SAMPLE_MS, stopping.signal)
      worstLagMs = Math.max(worstLagMs, systemClock.monotonic() - from - LAG_SAMPLE_MS)
    }
  }
  sample().catch(() => {}) // it was stopped
  prometheus.onScrape(() => {
    const { user, system } = process.cpuUsage()
    prometheus.countTo('process_cpu_seconds_total', (user + system) / 1e6)
    metrics.gauge('process_resident_memory_bytes', process.memoryUsage.rss())
    metrics.gauge('process_start_time_seconds', Math.round(startedAt / 1000))
    metrics.gauge('orrery_event_loop_lag_seconds', worstLagMs / 1000)
    worstLagMs = 0
  })
  return () => stopping.abort(new Error('no longer watched'))
}
