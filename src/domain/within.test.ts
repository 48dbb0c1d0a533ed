import { afterEach, describe, expect, test, vi } from 'vitest'
import { TookTooLong, within } from './within.ts'

/** Stands still without a processor, as a suspended process does, until it is interrupted. */
const standStill = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
const spin = (): void => {
  for (;;);
}

/** How long there was a processor for each try: on a machine with other work that is never sure. */
const hadProcessorFor = (ms: number): void =>
  void vi
    .spyOn(process, 'threadCpuUsage')
    .mockImplementation((before) => ({ user: before ? ms * 1_000 : 0, system: 0 }))

describe('work within a time', () => {
  afterEach(() => vi.restoreAllMocks())

  test('gives what it gives, and throws what it throws', () => {
    expect(within(1_000, () => 7)).toBe(7)
    expect(within(1_000, () => undefined)).toBeUndefined()
    expect(() =>
      within(1_000, () => {
        throw new RangeError('no')
      }),
    ).toThrow(RangeError)
  })

  test('is interrupted, and not begun anew, when it is what takes the time', () => {
    hadProcessorFor(10)
    let begun = 0
    expect(() =>
      within(20, () => {
        begun++
        spin()
      }),
    ).toThrow(TookTooLong)
    expect(begun).toBe(1)
  })

  test('is begun anew when the process stood still meanwhile', () => {
    hadProcessorFor(9)
    let begun = 0
    expect(
      within(20, () => {
        if (++begun < 3) standStill()
        return 'done'
      }),
    ).toBe('done')
    expect(begun).toBe(3)
  })

  test('is not begun anew for ever', () => {
    let begun = 0
    expect(() =>
      within(20, () => {
        begun++
        standStill()
      }),
    ).toThrow(TookTooLong)
    expect(begun).toBe(3)
  })

  test('may stand within work that has a time of its own', () => {
    expect(within(1_000, () => within(1_000, () => 1) + 1)).toBe(2)
  })
})
