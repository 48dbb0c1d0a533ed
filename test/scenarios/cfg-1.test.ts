import { describe, expect, test } from 'vitest'
import { runOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeDir, refused, startUp } from './rig.ts'

describe('CFG-1: PostgreSQL was chosen without an address', () => {
  test.for([
    ['by flag', ['up', '--store', 'postgres'], {}, '--store'],
    ['by variable', ['up'], { ORRERY_STORE: 'postgres' }, 'ORRERY_STORE'],
  ] as const)('%s: refused, with the flag, the variable and an example', async ([, args, env, source]) => {
    const { exit, failure } = await refused([...args, '--data-dir', makeDir()], env)
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'config.storage_dsn_missing',
      evidence: {
        flag: '--postgres-dsn',
        variable: 'ORRERY_POSTGRES_DSN',
        example: expect.stringMatching(/^postgres:\/\/\w+:\w+@[\w.]+:5432\/\w+$/),
        problems: [{ message: expect.stringContaining(source) }],
      },
    })
    const text = await runOrrery([...args], { env })
    expect(text.code).toBe(78)
    for (const word of ['config.storage_dsn_missing', '--postgres-dsn', 'ORRERY_POSTGRES_DSN', 'postgres://'])
      expect(text.stderr).toContain(word)
    expect(text.stdout).toBe('')
  })
})

describeWithPostgres('CFG-1: with the address', (postgres) => {
  test.for(['flag', 'variable'] as const)('given by %s the server starts', async (how) => {
    const dsn = await postgres.createDatabase()
    const up = await startUp(
      ['--store', 'postgres', '--no-worker', ...(how === 'flag' ? ['--postgres-dsn', dsn] : [])],
      how === 'variable' ? { env: { ORRERY_POSTGRES_DSN: dsn } } : {},
    )
    expect(await up.client.getHealth()).toMatchObject({ status: 'ok' })
  })
})
