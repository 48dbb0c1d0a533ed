import { describe, expect, test } from 'vitest'
import { FAILURES } from '../../domain/failures.ts'
import { fieldsOf } from '../../domain/kinds/fields.ts'
import { workflowKind } from '../../domain/kinds/workflow.ts'
import { SETTING_NAMES, SETTINGS } from '../settings.ts'
import { CliHarness } from '../testing/cli-harness.ts'

async function help(...words: string[]): Promise<CliHarness & { exit: number }> {
  const cli = new CliHarness()
  const exit = await cli.run('help', ...words)
  return Object.assign(cli, { exit })
}

describe('orrery help', () => {
  test('without a word is the help of the program', async () => {
    const cli = new CliHarness()
    await cli.run('--help')
    expect(await help()).toMatchObject({ exit: 0, out: cli.out })
  })

  test('of a command is what --help says', async () => {
    const cli = new CliHarness()
    await cli.run('runs', 'list', '--help')
    expect(await help('runs', 'list')).toMatchObject({ exit: 0, out: cli.out })
  })

  test('of what is not there says what was probably meant, and the topics', async () => {
    const { exit, err } = await help('workflw')
    expect(exit).toBe(2)
    expect(err).toContain('Did you mean workflow? Topics are workflow, environment, exit-codes')
    expect((await help('runs', 'lst')).err).toContain('Did you mean list?')
  })

  test('workflow tells of every field of the schema with its type and default', async () => {
    const { out } = await help('workflow')
    for (const { path } of fieldsOf(workflowKind.schema))
      expect(out).toContain(`  ${path.replace('spec.steps[].', '')}  `)
    expect(out).toMatch(/^ {2}retry\.max {2}.*default 0/m)
    expect(out).toMatch(/^ {2}spec\.steps {2}.*required/m)
  })

  test('environment tells of the variable of every setting, with its flag and default', async () => {
    const { out } = await help('environment')
    for (const name of SETTING_NAMES) expect(out).toContain(`  ${SETTINGS[name].env}  ${SETTINGS[name].flag};`)
    expect(out).toMatch(/^ {2}ORRERY_PORT {2}--port; .*default 7780$/m)
    expect(out).toContain('  ORRERY_CONTEXT  ')
  })

  test('exit-codes tells of every code of the catalogue', async () => {
    const { out } = await help('exit-codes')
    for (const code of Object.keys(FAILURES)) expect(out).toContain(code)
    expect(out).toMatch(/^ {2}124\n(?: {6}.*\n)* {6}.*run\.timed_out/m)
  })
})
