import { describe, expect, test } from 'vitest'
import { createDeadlines } from '../base/deadlines.ts'
import { HandClock } from '../base/clock.ts'
import { createWatch } from './watch.ts'

const watchOf = () => {
  const clock = new HandClock(0)
  return { clock, watch: createWatch(createDeadlines(clock)) }
}
const never = () => new AbortController().signal
/** Whether it is over, without waiting for it. */
const isOver = async (work: Promise<void>) => {
  let over = false
  void work.then(() => (over = true))
  for (let i = 0; i < 10; i++) await Promise.resolve()
  return over
}

describe('waiting for a run', () => {
  test('whoever waits is woken when it moves, others are not', async () => {
    const { watch } = watchOf()
    const [a, also, b] = [
      watch.wait('a', 1_000, never()),
      watch.wait('a', 1_000, never()),
      watch.wait('b', 1_000, never()),
    ]
    expect(watch.watched().sort()).toEqual(['a', 'b'])
    watch.notify('a')
    await Promise.all([a, also])
    expect(await isOver(b)).toBe(false)
    expect(watch.watched()).toEqual(['b'])
  })

  test('the wait ends with its time and with its signal, and leaves nothing behind', async () => {
    const { watch, clock } = watchOf()
    const cut = new AbortController()
    const [late, aborted] = [watch.wait('a', 1_000, never()), watch.wait('b', 1_000, cut.signal)]
    cut.abort()
    await aborted
    clock.advance(1_000)
    await late
    expect(watch.watched()).toEqual([])
    await watch.wait('a', 1_000, cut.signal)
    expect(watch.watched()).toEqual([])
  })

  test('only the end wakes who waits for the end', async () => {
    const { watch } = watchOf()
    const end = watch.waitEnd('a', 1_000, never())
    watch.notify('a')
    expect(await isOver(end)).toBe(false)
    watch.notifyEnded('a')
    await end
    expect(watch.watched()).toEqual([])
  })

  test('what becomes of an expected run is remembered', () => {
    const { watch } = watchOf()
    expect(watch.peek('a')).toBeNull()
    watch.notifyEnded('a')
    expect(watch.peek('a')).toBeNull()
    watch.expect('a')
    expect(watch.peek('a')).toBe('open')
    watch.notifyEnded('a')
    expect(watch.peek('a')).toBe('ended')
  })

  test('a run is remembered while as many come after it as may be remembered, and forgotten in the end', () => {
    const { watch } = watchOf()
    watch.expect('first')
    for (let i = 0; i < 25_000; i++) watch.expect(`run-${i}`)
    watch.notifyEnded('first')
    expect(watch.peek('first')).toBe('ended')
    for (let i = 0; i < 50_000; i++) watch.expect(`more-${i}`)
    expect(watch.peek('first')).toBeNull()
  })
})
