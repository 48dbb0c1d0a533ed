import { isRunTerminal, type RunState } from '../machines.ts'
import { isWaitCode, type Reason, type WaitCode, waitReason } from './reason.ts'

/** What matters of a run that may not have ended. */
export interface RunFacts {
  id: string
  state: RunState
  stop: 'cancel' | 'fail_fast' | 'timeout' | null
  createdAt: string
  /** Steps that have not ended, with their reasons. */
  steps: readonly { name: string; reason: Reason }[]
}

/** Which of several reasons a run answers with: what someone has to act on, then what is furthest along. */
const RANK: Record<WaitCode, number> = {
  session_lost: 1,
  approval: 2,
  budget: 3,
  waiting: 4,
  event: 5,
  child: 6,
  timer: 7,
  backoff: 8,
  running: 9,
  starting: 10,
  queued: 11,
  stopping: 12,
  activations: 13,
  max_parallel: 14,
  decision: 15,
  dependency: 16,
}

const rankOf = (reason: Reason): number => (isWaitCode(reason.code) ? RANK[reason.code] : 0)

/** Why a run has not ended, told by the step that decides it. Total: null for runs that have ended alone. */
export function runReason(f: RunFacts): (Reason & { step: string | null }) | null {
  if (isRunTerminal(f.state)) return null
  const [first] = f.steps.toSorted((a, b) => rankOf(a.reason) - rankOf(b.reason))
  if (f.stop === 'cancel' && (!first || isWaitCode(first.reason.code))) {
    const running = f.steps.filter((s) => s.reason.code === 'stopping').map((s) => s.name)
    const reason = waitReason('stopping', 'a cancel was asked for; running steps stop when their workers confirm', {
      evidence: { stopping: running.slice(0, 10) },
      remediation: 'It ends by itself. A worker that is gone holds it up until its lease is over.',
      since: null,
    })
    return { ...reason, step: first?.name ?? null }
  }
  if (!first) {
    const reason = waitReason('decision', 'no step is open; the engine decides how the run ends', {
      remediation: 'It ends by itself within a moment.',
      since: f.createdAt,
    })
    return { ...reason, step: null }
  }
  return { ...first.reason, message: `step ${first.name}: ${first.reason.message}`, step: first.name }
}
