import { formatDuration } from '../base/duration.ts'
import { workerProblems } from '../domain/worker-problems.ts'
import { type DoctorRow, pass, rowOfFailure, warn } from './doctor-row.ts'
import type { DoctorWorker, RefusalFacts } from '../domain/installation-facts.ts'

/** Who is there to work, who fell silent, who was refused. */
export function checkWorkers(workers: readonly DoctorWorker[], refusals: readonly RefusalFacts[]): DoctorRow[] {
  const rows: DoctorRow[] = []
  const ready = workers.filter((w) => w.state === 'live')
  const lost = workers.filter((w) => w.state === 'lost')
  if (ready.length > 0) {
    const slots = ready.reduce((sum, w) => sum + w.capacity, 0)
    const held = ready.reduce((sum, w) => sum + w.held, 0)
    rows.push(
      pass('workers', `${ready.length} ready`, {
        message: `${held} of ${slots} slots are busy`,
        evidence: { workers: ready.slice(0, 20).map((w) => w.worker), held, slots },
      }),
    )
  } else if (workers.length === 0) {
    rows.push(warn('workers', 'none', { code: 'dispatch.no_worker', message: 'no worker is connected' }))
  } else {
    rows.push(
      warn('workers', 'none ready', {
        code: 'dispatch.no_ready_worker',
        message: `${workers.length} known, none of them ready`,
        evidence: { workers: workers.slice(0, 20).map((w) => ({ worker: w.worker, state: w.state })) },
      }),
    )
  }
  for (const w of lost) {
    const heard = formatDuration(Math.max(0, Math.round(w.lastHeartbeatMs)))
    rows.push(
      warn('workers', `worker ${w.worker}`, {
        code: 'worker.lost',
        message: `last heard of ${heard} ago`,
        evidence: { worker: w.worker, lastHeartbeatMs: Math.round(w.lastHeartbeatMs) },
        remedy: `Look at the host and the log of worker ${w.worker}, or start another: orrery worker --server URL.`,
      }),
    )
  }
  for (const r of refusals) {
    const row = rowOfFailure('warn', 'workers', `worker ${r.worker}`, r.failure)
    rows.push({ ...row, message: `refused ${formatDuration(Math.max(0, Math.round(r.agoMs)))} ago: ${row.message}` })
  }
  return rows
}

/** Clocks of workers beside that of the server; of one that is lost, what it told last says nothing any more. */
export function checkWorkerClocks(workers: readonly DoctorWorker[]): DoctorRow[] {
  const here = workers.filter((w) => w.state !== 'lost')
  return here.flatMap((w) =>
    workerProblems({ worker: w.worker, clockSkewMs: w.clockSkewMs, version: '', serverVersion: '' })
      .filter((problem) => problem.code === 'worker.clock_skew')
      .map((problem) => rowOfFailure('warn', 'clock', `worker ${w.worker}`, problem)),
  )
}
