import { backoffMs, type BackoffPolicy } from '../base/backoff.ts'
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { LogLine, RunEvent } from '../contract/api-types.ts'
import { errorOfRecord } from '../contract/problem.ts'
import { SseParser } from '../contract/sse.ts'
import { Failure, type FailureRecord } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'
import type { Asker } from './ask.ts'
import { STREAM_SILENCE_MS } from './http-transport.ts'

export interface FollowDeps {
  asker: Asker
  clock: Clock
  random: Random
}

const RECONNECT: BackoffPolicy = { initialMs: 100, maxMs: 5_000, factor: 2, jitter: 0.5 }
/** Connections in a row that brought nothing before following gives up: some minutes of absence. */
const RECONNECT_MAX = 60

export type Part<T> = { kind: 'item'; item: T } | { kind: 'ended' }

/**
 * Opens a stream again whenever it is cut, from where it stood. The first connection must succeed; afterwards everything that
 * may pass by itself is waited out.
 */
export async function* reconnecting<T>(
  deps: FollowDeps,
  connect: () => Promise<AsyncIterable<Part<T>>>,
  signal: AbortSignal | undefined,
): AsyncIterable<T> {
  let fruitless = 0
  for (let first = true; ; first = false) {
    let failure: Failure | null = null
    let connected = false
    try {
      const parts = await connect()
      connected = true
      for await (const part of parts) {
        if (part.kind === 'ended') return
        fruitless = 0
        yield part.item
      }
    } catch (error) {
      const passes = error instanceof Failure && FAILURES[error.code].retry === 'later'
      if (!passes || (first && !connected)) throw error
      failure = error
    }
    if (++fruitless > RECONNECT_MAX && failure !== null) throw failure
    await deps.clock.sleep(backoffMs(RECONNECT, fruitless, deps.random), signal)
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
