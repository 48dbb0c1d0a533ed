import { describe, expect, test } from 'vitest'
import { HandClock } from '../base/clock.ts'
import { deferred } from '../base/deferred.ts'
import { silentLog } from '../base/log.ts'
import type { Db } from '../store/db.ts'
import type { EngineContext } from './context.ts'
import { type Hint, Hints } from './hints.ts'

/** Notifications in memory: what a store's `listen` and `pg_notify` are to hints. */
class Channel {
  readonly sent: string[] = []
  readonly listeners = new Set<{ onMessage: (payload: string) => void; onLost: () => void }>()
  gate: Promise<void> = Promise.resolve()
  opening: Promise<void> = Promise.resolve()

  db(): Db {
    return {
      query: async (_: string, params: readonly unknown[] = []) => {
        await this.gate
        const payload = String(params[1])
        this.sent.push(payload)
        for (const l of this.listeners) l.onMessage(payload)
        return []
      },
      listen: async (_: string, onMessage: (payload: string) => void, onLost: () => void) => {
        await this.opening
        const listener = { onMessage, onLost }
        this.listeners.add(listener)
        return () => Promise.resolve(void this.listeners.delete(listener))
      },
    } as unknown as Db // hints use these two calls
  }
}

const clock = new HandClock(0)
function hintsOf(channel: Channel, serverId: string): Hints {
  const hints = new Hints({ db: channel.db(), serverId, clock, log: silentLog } as unknown as EngineContext) // and these fields
  hints.isAlone = () => false
  return hints
}
const turns = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve()
}

describe('hints between servers', () => {
  test('a queue of which the oldest run is not known makes the others look at all of it', async () => {
    const channel = new Channel()
    const heard: Hint[] = []
    const stop = new AbortController()
    const loop = hintsOf(channel, 'b').listen((h) => heard.push(h), stop.signal)
    await turns()
    const gate = deferred<void>()
    channel.gate = gate.promise
    const a = hintsOf(channel, 'a')
    a.send({ queues: [1], from: 'run_1' })
    a.send({ queues: [2], from: 'run_2' })
    a.send({ queues: [3], from: null })
    gate.resolve()
    await turns()
    expect(heard.map(({ queues, from }) => ({ queues, from }))).toEqual([
      { queues: [1], from: 'run_1' },
      { queues: [2, 3], from: null },
    ])
    stop.abort()
    await loop
  })

  test('reach the others and not their sender', async () => {
    const channel = new Channel()
    const heard: Record<string, Hint[]> = { a: [], b: [] }
    const stop = new AbortController()
    const [a, b] = [hintsOf(channel, 'a'), hintsOf(channel, 'b')]
    const loops = [a.listen((h) => heard['a']?.push(h), stop.signal), b.listen((h) => heard['b']?.push(h), stop.signal)]
    await turns()
    a.send({ queues: [1], from: 'run_0', runs: ['run_1'], stopping: true })
    await turns()
    expect(heard).toEqual({ a: [], b: [{ queues: [1], from: 'run_0', runs: ['run_1'], stopping: true }] })
    stop.abort()
    await Promise.all(loops)
    expect(channel.listeners.size).toBe(0)
  })

  test('what gathers while one is sent goes with the next, each thing once', async () => {
    const channel = new Channel()
    const gate = deferred<void>()
    channel.gate = gate.promise
    const hints = hintsOf(channel, 'a')
    hints.send({ queues: [1], from: 'run_7' })
    for (const [q, from] of [
      [2, 'run_5'],
      [3, 'run_4'],
      [2, 'run_6'],
    ] as const)
      hints.send({ queues: [q], from })
    gate.resolve()
    await turns()
    const sent = channel.sent.map((s) => JSON.parse(s) as { queues: number[]; oldest: string })
    expect(sent.map(({ queues, oldest }) => ({ queues, oldest }))).toEqual([
      { queues: [1], oldest: 'run_7' },
      { queues: [2, 3], oldest: 'run_4' },
    ])
  })

  test('nothing is sent by a server that is alone', async () => {
    const channel = new Channel()
    const hints = hintsOf(channel, 'a')
    hints.isAlone = () => true
    hints.send({ queues: [1] })
    await turns()
    expect(channel.sent).toEqual([])
  })

  test('a payload never outgrows what a notification may carry', async () => {
    const channel = new Channel()
    const runs = Array.from({ length: 5_000 }, (_, i) => `run_${String(i).padStart(26, '0')}`)
    const queues = Array.from({ length: 20_000 }, (_, i) => i)
    hintsOf(channel, 'a').send({ queues, runs })
    await turns()
    expect(channel.sent.length).toBeGreaterThan(0)
    for (const payload of channel.sent) expect(payload.length).toBeLessThan(8_000)
  })

  test('what is no hint is passed over, and what is wrong in one left out', async () => {
    const channel = new Channel()
    const heard: Hint[] = []
    const stop = new AbortController()
    const loop = hintsOf(channel, 'a').listen((h) => heard.push(h), stop.signal)
    await turns()
    const [listener] = channel.listeners
    for (const payload of ['', '{', 'null', '[]', '{"queues":[1]}']) listener?.onMessage(payload)
    expect(heard).toEqual([])
    listener?.onMessage('{"from":"b","queues":[1,"x"],"runs":"run","stopping":1}')
    expect(heard).toEqual([{ queues: [1], from: null, runs: [], stopping: false }])
    stop.abort()
    await loop
  })

  test('a lost connection is opened again', async () => {
    const channel = new Channel()
    const stop = new AbortController()
    const loop = hintsOf(channel, 'a').listen(() => {}, stop.signal)
    await turns()
    for (const l of channel.listeners) {
      channel.listeners.delete(l)
      l.onLost()
    }
    await turns()
    expect(channel.listeners.size).toBe(0)
    clock.advance(1_000)
    await turns()
    expect(channel.listeners.size).toBe(1)
    stop.abort()
    await loop
  })

  test('a stop while the connection is being opened is not missed', async () => {
    const channel = new Channel()
    const opening = deferred<void>()
    channel.opening = opening.promise
    const stop = new AbortController()
    const loop = hintsOf(channel, 'a').listen(() => {}, stop.signal)
    stop.abort()
    opening.resolve()
    await loop
    expect(channel.listeners.size).toBe(0)
  })

  test('that do not come back are told: while the connection cannot be opened, when it is lost, when nothing passes', async () => {
    const channel = new Channel()
    const stop = new AbortController()
    const hints = hintsOf(channel, 'a')
    expect(await hints.probe()).toEqual({ kind: 'unknown' })
    channel.opening = Promise.reject(new Error('too many clients'))
    const loop = hints.listen(() => {}, stop.signal)
    await turns()
    clock.advance(500)
    expect(await hints.probe()).toEqual({ kind: 'deaf', forMs: 500, error: 'Error: too many clients' })

    channel.opening = Promise.resolve()
    clock.advance(500)
    await turns()
    expect(await hints.probe()).toEqual({ kind: 'heard', latencyMs: 0 })
    expect(hints.deafMs()).toBeNull()

    // A pooler that takes the wish to listen, and passes nothing on.
    const [listener] = channel.listeners
    channel.listeners.clear()
    const asked = hints.probe()
    await turns()
    clock.advance(2_000)
    expect(await asked).toEqual({ kind: 'deaf', forMs: 0, error: 'what is sent does not come back' })
    clock.advance(700)
    expect(hints.deafMs()).toBe(700)
    if (listener) channel.listeners.add(listener)
    expect(await hints.probe()).toMatchObject({ kind: 'heard' })

    channel.listeners.clear()
    listener?.onLost()
    await turns()
    expect(await hints.probe()).toMatchObject({ kind: 'deaf', error: 'the connection that listens was lost' })
    stop.abort()
    await loop
  })
})
