import { afterEach, describe, expect, test, vi } from 'vitest'
import { HandClock, systemClock } from './clock.ts'

/** Lets everything run that is due now. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

describe('a clock turned by hand', () => {
  test('wakes sleepers in the order of their due times, not of their calls', async () => {
    const clock = new HandClock(0)
    const woken: string[] = []
    void clock.sleep(30).then(() => woken.push('c'))
    void clock.sleep(10).then(() => woken.push('a'))
    void clock.sleep(20).then(() => woken.push('b1'))
    void clock.sleep(20).then(() => woken.push('b2'))
    clock.advance(100)
    await settle()
    expect(woken).toEqual(['a', 'b1', 'b2', 'c'])
  })

  test('wakes nobody early, and each sleeper once', async () => {
    const clock = new HandClock(1_000)
    let woken = 0
    void clock.sleep(10).then(() => woken++)
    clock.advance(9)
    await settle()
    expect(woken).toBe(0)
    clock.advance(1)
    clock.advance(50)
    await settle()
    expect(woken).toBe(1)
    expect(clock.now()).toBe(1_060)
  })

  test('an aborted sleep ends with the reason and is forgotten', async () => {
    const clock = new HandClock(0)
    const stop = new AbortController()
    const sleeping = clock.sleep(10, stop.signal)
    stop.abort(new Error('drained'))
    await expect(sleeping).rejects.toThrow('drained')
    clock.advance(10)
    await expect(clock.sleep(10, stop.signal)).rejects.toThrow('drained')
  })
})

describe('the clock of the system', () => {
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  test('an aborted sleep ends with the reason, before or during it', async () => {
    const stop = new AbortController()
    const sleeping = systemClock.sleep(60_000, stop.signal)
    stop.abort(new Error('drained'))
    await expect(sleeping).rejects.toThrow('drained')
    await expect(systemClock.sleep(60_000, stop.signal)).rejects.toThrow('drained')
  })

  test('a sleep takes no less than it was told, though its timer be early', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const now = vi.spyOn(performance, 'now').mockReturnValue(100)
    let isAwake = false
    const sleeping = systemClock.sleep(5).then(() => (isAwake = true))
    now.mockReturnValue(104.6)
    await vi.advanceTimersByTimeAsync(5)
    expect(isAwake).toBe(false)
    now.mockReturnValue(105)
    await vi.advanceTimersByTimeAsync(1)
    await sleeping
  })

  describe('over more than a timer can be set to', () => {
    const DAY_MS = 24 * 3_600_000

    test('sleeps all that time, and no longer', async () => {
      vi.useFakeTimers()
      let isAwake = false
      const sleeping = systemClock.sleep(60 * DAY_MS).then(() => (isAwake = true))
      for (const days of [1, 29, 29]) {
        await vi.advanceTimersByTimeAsync(days * DAY_MS)
        expect(isAwake).toBe(false)
      }
      await vi.advanceTimersByTimeAsync(DAY_MS)
      await sleeping
      expect(vi.getTimerCount()).toBe(0)
    })

    test('is still ended by the signal, and leaves no timer', async () => {
      vi.useFakeTimers()
      const stop = new AbortController()
      const sleeping = systemClock.sleep(60 * DAY_MS, stop.signal)
      sleeping.catch(() => {})
      await vi.advanceTimersByTimeAsync(30 * DAY_MS)
      stop.abort(new Error('drained'))
      await expect(sleeping).rejects.toThrow('drained')
      expect(vi.getTimerCount()).toBe(0)
    })
  })
})
