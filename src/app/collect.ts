import type { RunningEngine } from '../engine/index.ts'
import type { Db } from '../store/index.ts'
import type { Prometheus } from '../telemetry/index.ts'
import type { Worker } from '../worker/index.ts'

/** What is looked at only when somebody scrapes a server. */
export function collectServer(prometheus: Prometheus, engine: RunningEngine, db: Db): void {
  const { metrics } = prometheus
  prometheus.onScrape(async () => {
    for (const [state, count] of Object.entries(db.connections?.() ?? {}))
      metrics.gauge('orrery_db_connections', count, { state })
    const { sessions, slots, steps } = await engine.stats()
    metrics.gauge('orrery_sessions', sessions)
    for (const [state, count] of Object.entries(slots)) metrics.gauge('orrery_slots', count, { state })
    for (const { state, count, oldestSeconds } of steps ?? []) {
      metrics.gauge('orrery_steps', count, { state })
      metrics.gauge('orrery_steps_oldest_seconds', Math.max(0, oldestSeconds), { state })
    }
  })
}

export function collectWorker(prometheus: Prometheus, worker: Worker): void {
  const { metrics } = prometheus
  prometheus.onScrape(() => {
    const stats = worker.stats()
    metrics.gauge('orrery_worker_connected', stats.session === null ? 0 : 1)
    metrics.gauge('orrery_worker_slots', stats.free, { state: 'free' })
    metrics.gauge('orrery_worker_slots', stats.running, { state: 'running' })
    metrics.gauge('orrery_worker_attempts', stats.running, { state: 'running' })
    metrics.gauge('orrery_worker_attempts', stats.queued, { state: 'queued' })
    metrics.gauge('orrery_worker_attempts', Math.max(0, stats.held - stats.running - stats.queued), {
      state: 'unacknowledged',
    })
    metrics.gauge('orrery_worker_outbox', stats.outbox)
    prometheus.countTo('orrery_worker_outages_total', stats.outages)
  })
}
