import type { LogLine, RunEvent } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import { SseParser } from '../contract/sse.ts'
import type { FailureRecord } from '../domain/failure.ts'
import { Absence, type AbsenceDeps } from './absence.ts'
import type { Asker } from './ask.ts'
import { STREAM_SILENCE_MS } from './http-transport.ts'
import { queryText } from './query-text.ts'
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

/** The lines of a log that are there now, up to a bound. */
export async function readLogs(
  deps: FollowDeps,
  runId: string,
  options: { lines: number; chars: number; step?: string; cursor?: string; signal?: AbortSignal },
): Promise<{ lines: LogLine[]; next: string | null; isMore: boolean }> {
  const query = queryText({ step: options.step, cursor: options.cursor })
  const path = `/v1/runs/${encodeURIComponent(runId)}/logs${query}`
  const { body } = await deps.asker.open(path, { headers: NDJSON, signal: options.signal })
  const lines: LogLine[] = []
  let next = options.cursor ?? null
  let chars = 0
  for await (const line of ndjsonLines(body)) {
    if ('end' in line) return { lines, next, isMore: false }
    const { cursor, ...item } = line
    chars += item.text.length
    // One line is given however long it is: else nobody would get past it.
    if (lines.length >= options.lines || (lines.length > 0 && chars > options.chars))
      return { lines, next, isMore: true }
    lines.push(item)
    next = cursor
  }
  return { lines, next, isMore: true }
}

const NDJSON = { accept: 'application/x-ndjson' }

/** Throws the failure that the server told in the middle. */
async function* ndjsonLines(body: AsyncIterable<string>): AsyncIterable<Exclude<NdjsonLine, { failure: unknown }>> {
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const text of lines) {
      if (text === '') continue // a heartbeat
      const line = JSON.parse(text) as NdjsonLine // as the server sent it
      if ('failure' in line) throw errorOfRecord(line.failure)
      yield line
    }
  }
}

export function followLogs(
  deps: FollowDeps,
  runId: string,
  options: { step?: string; follow?: boolean; signal?: AbortSignal },
): AsyncIterable<LogLine> {
  let cursor: string | null = null
  async function* read(body: AsyncIterable<string>): AsyncIterable<Part<LogLine>> {
    for await (const line of ndjsonLines(body)) {
      if ('end' in line) {
        yield { kind: 'ended' }
        return
      }
      const { cursor: at, ...item } = line
      cursor = at
      yield { kind: 'item', item }
    }
  }
  const connect = async () => {
    const query = new URLSearchParams()
    if (options.step !== undefined) query.set('step', options.step)
    if (options.follow) query.set('follow', 'true')
    if (cursor !== null) query.set('cursor', cursor)
    const path = `/v1/runs/${encodeURIComponent(runId)}/logs?${query}`
    return read(
      (await deps.asker.open(path, { headers: NDJSON, silenceMs: STREAM_SILENCE_MS, signal: options.signal })).body,
    )
  }
  return reconnecting(deps, connect, options.signal)
}
