import type { StepView } from '../contract/api-types.ts'
import { type FailureRecord, failureRecord } from '../domain/failure.ts'
import { isFailureCode } from '../domain/failures.ts'
import { runReason } from '../domain/reasons/run-reason.ts'
import type { RunReadRow } from '../store/runs/read-runs.ts'
import type { EngineContext } from './context.ts'

/** Running steps that a stalled run names. */
const STALLED_SHOWN = 10

/** A live run that has not moved for long says so, and what it waits for: the first step that waits for more than other steps. */
export function stalledOf(
  ctx: EngineContext,
  run: RunReadRow,
  steps: readonly StepView[],
): { stalled?: FailureRecord } {
  if (run.ended_at !== null || run.still_ms < ctx.times.stallMs) return {}
  const reason = runReason({
    id: run.id,
    state: 'running',
    stop: run.stop,
    createdAt: run.created_at.toISOString(),
    steps: steps.flatMap((s) => (s.reason ? [{ name: s.name, reason: s.reason }] : [])),
  })
  const running = steps.filter((s) => s.reason?.code === 'running').map((s) => s.name)
  const isAtWork = reason?.code === 'running'
  const why = isAtWork ? `running: ${running.slice(0, STALLED_SHOWN).join(', ')}` : (reason?.message ?? '')
  const record = failureRecord('run.stalled', `no progress for ${Math.round(run.still_ms / 1000)} s; ${why}`, {
    evidence: {
      stillMs: Math.round(run.still_ms),
      queuedOrRunning: run.active,
      ...(reason?.step ? { step: reason.step, reason: reason.code } : {}),
      ...(running.length > 0 ? { running: running.slice(0, STALLED_SHOWN) } : {}),
    },
    remediation: isAtWork
      ? 'The steps named are at work; give a step a timeout to bound it, or cancel the run.'
      : (reason?.remediation ?? 'It goes on by itself when what it waits for has come.'),
  })
  if (!reason || !isFailureCode(reason.code)) return { stalled: record }
  const { code, evidence, remediation, retryable } = reason
  const message = steps.find((s) => s.name === reason.step)?.reason?.message ?? reason.message
  return { stalled: { ...record, cause: { code, message, evidence, remediation, retryable } } }
}
