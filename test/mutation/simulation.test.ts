import { describe, expect, test } from 'vitest'
import { makeTree, PREPARED, type Ran } from './mutated-tree.ts'
import { type Mutant, SIM_MUTANTS } from './mutants.ts'

/** Runs seeds in a copy of the sources, up to the first that fails. */
async function simulateIn(mutant: Mutant | null, seeds: readonly number[]): Promise<Ran> {
  const tree = await makeTree(mutant)
  try {
    const args = ['--once', '--bail', '--prepared', PREPARED, '--seed', seeds.join(',')]
    return await tree.run('test/sim/main.ts', args)
  } finally {
    await tree.remove()
  }
}

describe('the simulation notices', { timeout: 150_000 }, () => {
  test('nothing in the sources as they are', async () => {
    const seeds = [...new Set(SIM_MUTANTS.map((m) => m.seeds[0] ?? 1))]
    const { code, output } = await simulateIn(null, seeds)
    expect(code, output).toBe(0)
  })

  test.for(SIM_MUTANTS)('$name', async (mutant) => {
    const { code, output } = await simulateIn(mutant, mutant.seeds)
    expect(code, output).toBe(1)
    expect(output).toMatch(mutant.caughtAs)
  })
})
