import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeTree, type Ran } from './mutated-tree.ts'
import { type Mutant, RACE_MUTANTS } from './mutants.ts'

async function raceIn(mutant: Mutant | null, dsn: string): Promise<Ran> {
  const tree = await makeTree(mutant)
  try {
    return await tree.run('test/mutation/races.ts', [dsn])
  } finally {
    await tree.remove()
  }
}

describeWithPostgres('two connections notice', (postgres) => {
  test('nothing in the sources as they are', { timeout: 120_000 }, async () => {
    const { code, output } = await raceIn(null, await postgres.createStore())
    expect(code, output).toBe(0)
  })

  test.for(RACE_MUTANTS)('$name', { timeout: 120_000 }, async (mutant) => {
    const { code, output } = await raceIn(mutant, await postgres.createStore())
    expect(code, output).toBe(1)
    expect(output).toMatch(mutant.caughtAs)
  })
})
