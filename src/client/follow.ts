import type { LogLine, RunEvent } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import { SseParser } from '../contract/sse.ts'
import type { FailureRecord } from '../domain/failure.ts'
import { Absence, type AbsenceDeps } from './absence.ts'
import type { Asker } from './ask.ts'
import { STREAM_SILENCE_MS } from './http-transport.ts'
import { unreachable } from './unreachable.ts'

export interface FollowDeps extends AbsenceDeps {
  asker: Asker
}

/** A stream that stood for so long shows that the server is there. */
const STEADY_MS = 5_000

export type Part<T> = { kind: 'item'; item: T } | { kind: 'ended' }

/**
 * Opens a stream again whenever it is cut, from where it stood. The first connection must succeed; afterwards everything that
 * may pass by itself is waited out, for as long as a server may be away.
 */
export async function* reconnecting<T>(
  deps: FollowDeps,
  connect: () => Promise<AsyncIterable<Part<T>>>,
  signal: AbortSignal | undefined,
  { hasAnswered = false }: { hasAnswered?: boolean } = {},
): AsyncIterable<T> {
  const absence = new Absence(deps)
  for (let first = !hasAnswered; ; first = false) {
    let connectedAt: number | null = null
    try {
      const parts = await connect()
      connectedAt = deps.clock.monotonic()
      for await (const part of parts) {
        if (part.kind === 'ended') return
        absence.brought()
        yield part.item
      }
      throw unreachable('http', deps.asker.transport, 'reading a stream', { error: 'it ended before its last item' })
    } catch (error) {
      if (first && connectedAt === null) throw error
      // One that is cut at once is as good as none; one that was merely silent is not.
      if (connectedAt !== null && deps.clock.monotonic() - connectedAt > STEADY_MS) absence.answered()
      await absence.outlast(error, signal)
    }
  }
}

type TerminalEvent = RunEvent & { terminal: boolean }

export function followEvents(
  deps: FollowDeps,
  runId: string,
  options: { afterSeq?: number; signal?: AbortSignal },
): AsyncIterable<TerminalEvent> {
  let last = options.afterSeq ?? 0
  async function* read(body: AsyncIterable<string>): AsyncIterable<Part<TerminalEvent>> {
    const parser = new SseParser()
    for await (const chunk of body) {
      for (const frame of parser.push(chunk)) {
        if (frame.event === 'failure') throw errorOfRecord(JSON.parse(frame.data) as FailureRecord) // as the server sent it
        if (frame.event !== 'changes' && frame.event !== 'end') continue
        const event = JSON.parse(frame.data) as RunEvent | null // as the server sent it
        const terminal = frame.event === 'end'
        if (event !== null && event.seq > last) {
          last = event.seq
          yield { kind: 'item', item: { ...event, terminal } }
        }
        if (terminal) {
          yield { kind: 'ended' }
          return
        }
      }
    }
  }
  const connect = async () => {
    const headers = { accept: 'text/event-stream', 'last-event-id': String(last) }
    const path = `/v1/runs/${encodeURIComponent(runId)}/events`
    return read((await deps.asker.open(path, { headers, silenceMs: STREAM_SILENCE_MS, signal: options.signal })).body)
  }
  return reconnecting(deps, connect, options.signal)
}

type NdjsonLine = (LogLine & { cursor: string }) | { end: true } | { failure: FailureRecord }

export function followLogs(
  deps: FollowDeps,
  runId: string,
  options: { step?: string; follow?: boolean; signal?: AbortSignal },
): AsyncIterable<LogLine> {
  let cursor: string | null = null
  async function* read(body: AsyncIterable<string>): AsyncIterable<Part<LogLine>> {
    let rest = ''
    for await (const chunk of body) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const text of lines) {
        if (text === '') continue // a heartbeat
        const line = JSON.parse(text) as NdjsonLine // as the server sent it
        if ('failure' in line) throw errorOfRecord(line.failure)
        if ('end' in line) {
          yield { kind: 'ended' }
          return
        }
        const { cursor: at, ...item } = line
        cursor = at
        yield { kind: 'item', item }
      }
    }
  }
  const connect = async () => {
    const query = new URLSearchParams()
    if (options.step !== undefined) query.set('step', options.step)
    if (options.follow) query.set('follow', 'true')
    if (cursor !== null) query.set('cursor', cursor)
    const path = `/v1/runs/${encodeURIComponent(runId)}/logs?${query}`
    const headers = { accept: 'application/x-ndjson' }
    return read((await deps.asker.open(path, { headers, silenceMs: STREAM_SILENCE_MS, signal: options.signal })).body)
  }
  return reconnecting(deps, connect, options.signal)
}
