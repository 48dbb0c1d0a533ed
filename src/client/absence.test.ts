import { describe, expect, test } from 'vitest'
import { HandClock } from '../base/clock.ts'
import { Failure } from '../domain/failure.ts'
import { Absence } from './absence.ts'

/** Lets what was promised happen. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve))

const away = new Failure('client.server_unreachable', 'asking')

describe('a server that is away', () => {
  const rig = (maxMs: number) => {
    const clock = new HandClock(0)
    return {
      clock,
      absence: new Absence({ clock, random: { next: () => 0, bytes: (n: number) => new Uint8Array(n) } }, maxMs),
    }
  }
  /** How long the next wait is. */
  async function waitOf(clock: HandClock, waiting: Promise<void>): Promise<number> {
    let isOver = false
    void waiting.then(() => (isOver = true))
    for (let waitedMs = 0; ; waitedMs += 100) {
      await settle()
      if (isOver) return waitedMs
      clock.advance(100)
    }
  }

  test('is asked again after longer and longer times, and given up when it stays away', async () => {
    const { clock, absence } = rig(2_000)
    const waits: number[] = []
    for (let i = 0; i < 5; i++) waits.push(await waitOf(clock, absence.outlast(away, undefined)))
    expect(waits).toEqual([100, 200, 400, 800, 1600])
    await expect(absence.outlast(away, undefined)).rejects.toBe(away)
  })

  test('has the whole time anew once it has answered', async () => {
    const { clock, absence } = rig(300)
    await waitOf(clock, absence.outlast(away, undefined))
    await waitOf(clock, absence.outlast(away, undefined))
    absence.answered()
    expect(await waitOf(clock, absence.outlast(away, undefined))).toBe(400)
    absence.brought()
    expect(await waitOf(clock, absence.outlast(away, undefined))).toBe(100)
  })

  test('is not asked before the time that it named', async () => {
    const { clock, absence } = rig(60_000)
    const busy = new Failure('request.rate_limited', 'asking', { evidence: { retryAfterSeconds: 3 } })
    expect(await waitOf(clock, absence.outlast(busy, undefined))).toBe(3_000)
  })

  test('what does not pass by itself is told at once, and so is the caller who leaves', async () => {
    const { absence } = rig(60_000)
    const refused = new Failure('client.unauthorized', 'asking')
    await expect(absence.outlast(refused, undefined)).rejects.toBe(refused)
    await expect(absence.outlast(away, AbortSignal.abort(new Error('left')))).rejects.toThrow('left')
  })
})
