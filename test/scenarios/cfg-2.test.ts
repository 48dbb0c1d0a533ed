import { describe, expect, test } from 'vitest'
import { runOrrery } from '../support/processes.ts'
import { makeDir, refused, startUp } from './rig.ts'

describe('CFG-2: a setting has a value that is not supported', () => {
  test.for<[flag: string, variable: string, given: string, accepted: string[], nearest: string]>([
    ['--store', 'ORRERY_STORE', 'postgresql', ['embedded', 'postgres'], 'postgres'],
    ['--log-format', 'ORRERY_LOG_FORMAT', 'jsno', ['text', 'json'], 'json'],
    ['--log-level', 'ORRERY_LOG_LEVEL', 'wanr', ['debug', 'info', 'warn', 'error'], 'warn'],
  ])('%s: the accepted values and the nearest one are named', async ([flag, variable, given, accepted, nearest]) => {
    const byFlag = await refused(['up', '--data-dir', makeDir(), flag, given])
    const byVariable = await refused(['up', '--data-dir', makeDir()], { [variable]: given })
    for (const [{ exit, failure }, path] of [
      [byFlag, flag],
      [byVariable, variable],
    ] as const) {
      expect(exit).toBe(78)
      expect(failure).toMatchObject({ code: 'config.value_unsupported', evidence: { problems: [{ path, nearest }] } })
      const [problem] = failure.evidence['problems'] as { message: string }[]
      for (const word of [given, ...accepted]) expect(problem?.message).toContain(word)
    }
  })

  test('several are told at once, as text too; corrected, the server starts', async () => {
    const wrong = ['--store', 'memory', '--log-level', 'verbose', '--port', 'eighty', '--capacity', '0']
    const end = await runOrrery(['up', '--data-dir', makeDir(), ...wrong])
    expect(end.code).toBe(78)
    expect(end.stderr).toContain('4 problems')
    for (const word of ['memory', 'verbose', 'eighty', '--capacity', 'embedded, postgres'])
      expect(end.stderr).toContain(word)

    const up = await startUp(['--store', 'embedded', '--log-level', 'debug', '--capacity', '1', '--no-worker'])
    expect(await up.client.getHealth()).toMatchObject({ status: 'ok' })
  })

  test('an address of PostgreSQL that is none is refused without showing it', async () => {
    const { exit, failure } = await refused([
      'up',
      '--store',
      'postgres',
      '--postgres-dsn',
      'mysql://root:hunter2@db/x',
    ])
    expect(exit).toBe(78)
    expect(failure.code).toBe('config.value_unsupported')
    expect(JSON.stringify(failure)).not.toContain('hunter2')
    expect(JSON.stringify(failure)).toContain('postgres://')
  })
})
