import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_TICKS, simulate } from './simulate.ts'
import { SimStore } from './store.ts'

const COUNT = Number(process.env['ORRERY_SIM_SEEDS'] ?? 20)

/**
 * Seeds that failed once, with what they showed. They are run whatever the count is. Most notice it still when the mend is taken
 * out; those marked * failed before the dice were weighted anew, and what they showed has a test in found.test.ts.
 */
const KEPT: Record<number, string> = {
  1: 'events told a second time that a step and its run began',
  9: '* an attempt was taken back as never acknowledged though another server had recorded its beginning',
  12: 'a lease that another server had made was looked for too late, and slots of ended attempts stayed taken',
  13: 'a retry by hand let more activations of a forEach go than maxParallel allows',
  15: '* a queue that never ran dry starved those behind it',
  20: 'a slot stayed taken by an attempt whose deadline the server had enforced, and its worker was not told',
}

const seeds = [...new Set([...Array.from({ length: COUNT }, (_, i) => i + 1), ...Object.keys(KEPT).map(Number)])]

describe('simulation', () => {
  let store: SimStore
  beforeAll(async () => {
    store = await SimStore.open()
  })
  afterAll(() => store.close())

  test.for([1, 2, 3, 4])(
    'seed %i with steps that wait in rows, runs below runs, joins of any and loops, and people who decide and send',
    { timeout: 180_000 },
    async (seed) => {
      const { broken } = await simulate(store, { seed, ticks: DEFAULT_TICKS, waits: true })
      expect(broken, `seed ${seed}; again: npm run sim -- --waits --seed ${seed} --log`).toBeNull()
    },
  )

  test.for([1, 2, 3, 4])(
    'seed %i with agents that journal, wait for people, budgets and runs below, and die between any two appends',
    { timeout: 180_000 },
    async (seed) => {
      const { broken, entries } = await simulate(store, { seed, ticks: DEFAULT_TICKS, agents: true })
      expect(broken, `seed ${seed}; again: npm run sim -- --agents --seed ${seed} --log`).toBeNull()
      expect(entries).toBeGreaterThan(0)
    },
  )

  // 46 showed that what was leased to a worker which had just said good-bye elsewhere stayed with it for ever; 95, that of two lives of
  // a worker which report one attempt in one flush the wrong one could be believed.
  test.for([1, 2, 46, 95])(
    'seed %i with workers that are told to drain, finish, say good-bye and come again',
    { timeout: 180_000 },
    async (seed) => {
      const { broken, lines } = await simulate(store, { seed, ticks: DEFAULT_TICKS, drains: true })
      expect(broken, `seed ${seed}; again: npm run sim -- --drains --seed ${seed} --log`).toBeNull()
      expect(lines.filter((line) => line.endsWith('has left')).length).toBeGreaterThan(0)
    },
  )

  test.for(seeds)(
    'seed %i: what must hold holds after every tick, every run ends, twice with the same log',
    { timeout: 180_000 },
    async (seed) => {
      const again = `npm run sim -- --seed ${seed} --log`
      const one = await simulate(store, { seed, ticks: DEFAULT_TICKS })
      expect(one.broken, `seed ${seed}; again: ${again}`).toBeNull()
      const two = await simulate(store, { seed, ticks: DEFAULT_TICKS })
      const differs = one.lines.findIndex((line, i) => line !== two.lines[i])
      expect(two.lines[differs], `line ${differs + 1} of the second log of seed ${seed}; again: ${again}`).toBe(
        one.lines[differs],
      )
      expect(two.lines.length).toBe(one.lines.length)
    },
  )
})
