import { describe, expect, test } from 'vitest'
import type { DoctorRow } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { VARIABLES } from '../variables.ts'

async function doctor(cli: CliHarness, ...argv: string[]): Promise<{ exit: number; rows: DoctorRow[] }> {
  const exit = await cli.run('doctor', '--json', ...argv)
  return { exit, ...(cli.jsonLines[0] as { rows: DoctorRow[] }) }
}

describe('orrery doctor', () => {
  test('knows every variable that something reads, and tells of those that nearly are one', async () => {
    const cli = new CliHarness()
    for (const name of Object.keys(VARIABLES)) if (name.startsWith('ORRERY_')) cli.env[name] = 'set'
    // A file of settings that is not there would be told of instead.
    delete cli.env['ORRERY_CONFIG']
    const odd = (rows: DoctorRow[]) => rows.filter((row) => row.check === 'config' && row.status !== 'pass')
    expect(odd((await doctor(cli)).rows)).toEqual([])
    const other = new CliHarness()
    other.env['ORRERY_CONTXT'] = 'prod'
    expect(JSON.stringify(odd((await doctor(other)).rows))).toContain('ORRERY_CONTEXT')
  })

  test('an address that cannot be told is a row like all others, and this host is looked at', async () => {
    const cli = new CliHarness()
    cli.addressFailure = new Failure('context.not_found', 'looking for context prod')
    const { exit, rows } = await doctor(cli, '--context', 'prod')
    expect(exit).toBe(2)
    expect(rows).toContainEqual(expect.objectContaining({ check: 'server', status: 'fail', code: 'context.not_found' }))
    expect(cli.questions).toHaveLength(1)
  })
})
