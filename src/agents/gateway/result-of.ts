import type { ModelEvent, ModelResult } from '../../domain/model-call.ts'

/** Reads a call to its end. Throws the Failure of the call. */
export async function resultOf(events: AsyncIterable<ModelEvent>): Promise<ModelResult> {
  for await (const event of events) if (event.type === 'finished') return event.result
  throw new Error('the call of a model ended without a result')
}
