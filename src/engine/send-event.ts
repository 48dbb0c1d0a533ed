import type { Json } from '../base/json.ts'
import type { SentEventView } from '../contract/api-types.ts'
import { isEventName } from '../domain/begin.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { displayName } from '../domain/step.ts'
import { findRun } from '../store/runs/read-runs.ts'
import { countKept, findTaker, insertSentEvent } from '../store/runs/sent-events.ts'
import type { EngineContext } from './context.ts'
import type { Caller } from './engine.ts'
import { type Settled, settleRun } from './settle.ts'
import { reach } from './visible.ts'

export interface EventToSend {
  name: string
  payload: Json
  /** The same key is the same event: sent again it changes nothing. */
  key: string | null
}

/** Sends an event to a run. A step that waits for it goes on at once; else the run keeps it until one does. */
export async function sendEvent(
  ctx: EngineContext,
  caller: Caller,
  runId: string,
  event: EventToSend,
): Promise<{ view: SentEventView; settled: Settled | null }> {
  const { name, payload, key } = event
  const doing = `sending event ${name} to run ${runId}`
  const row = await findRun(ctx.db, runId, reach(caller))
  if (!row) throw new Failure('run.not_found', doing)
  if (!isEventName(name))
    throw new Failure('request.invalid', `${doing}: its name has blanks, slashes, colons or more than 256 characters`)
  const bytes = Buffer.byteLength(JSON.stringify(payload))
  if (bytes > LIMITS.eventBytes)
    throw new Failure('request.too_large', `${doing}: the payload`, { evidence: { bytes, limit: LIMITS.eventBytes } })
  let id = ctx.ids.make('event')
  const settled = await settleRun(ctx, runId, [{ type: 'event_sent', name }], async (tx, run) => {
    const kept = await insertSentEvent(tx, { id, runId, name, key, payload, by: caller.actor })
    if (kept.kind === 'known') {
      const isSame = kept.name === name && JSON.stringify(kept.payload) === JSON.stringify(payload)
      if (!isSame) throw new Failure('idempotency.key_reused', doing, { evidence: { key, event: kept.id } })
      id = kept.id
      return
    }
    // After what was sent before under the same key: that is answered as it was then.
    if (run.ended) throw new Failure('run.finished', doing, { evidence: { state: run.state } })
    if ((await countKept(tx, runId)) > LIMITS.eventsKeptMax)
      throw new Failure('event.limit_reached', doing, { evidence: { limit: LIMITS.eventsKeptMax } })
  })
  const taker = await findTaker(ctx.db, runId, id)
  const { definition } = await ctx.definitions.get(row.definition)
  const step = taker ? displayName(definition.nodes[taker.node]?.name ?? '', taker.path) : null
  return { view: { id, run: runId, name, state: taker ? 'taken' : 'kept', step }, settled }
}
