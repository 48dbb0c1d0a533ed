import type { AskModelRequest } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import { SseParser } from '../contract/sse.ts'
import { Failure, type FailureRecord } from '../domain/failure.ts'
import type { ModelEvent } from '../domain/model-call.ts'
import type { FollowDeps } from './follow.ts'
import { STREAM_SILENCE_MS } from './http-transport.ts'

/** Events of one call. It is not taken up again where it was cut: the answer of a second call is another one. */
export async function* askModel(
  { asker }: FollowDeps,
  path: string,
  { request, signal }: { request: AskModelRequest; signal?: AbortSignal | undefined },
): AsyncIterable<ModelEvent> {
  const headers = { accept: 'text/event-stream' }
  const { body } = await asker.open(path, { body: request, headers, silenceMs: STREAM_SILENCE_MS, signal })
  const parser = new SseParser()
  for await (const chunk of body) {
    for (const frame of parser.push(chunk)) {
      if (frame.event === 'failure') throw errorOfRecord(JSON.parse(frame.data) as FailureRecord) // as the server sent it
      const event = JSON.parse(frame.data) as ModelEvent // as the server sent it
      yield event
      if (event.type === 'finished') return
    }
  }
  throw new Failure('client.server_unreachable', 'reading the answer of a model: it was cut off before its end', {
    evidence: { address: asker.transport.address },
  })
}
