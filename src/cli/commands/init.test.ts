import { describe, expect, test } from 'vitest'
import { TEMPLATES } from './init.ts'
import { CliHarness } from '../testing/cli-harness.ts'

describe('init', () => {
  test('makes the files and says what to run', async () => {
    const cli = new CliHarness()
    expect(await cli.run('init', 'my project', '--template', 'commands')).toBe(0)
    expect(cli.files['/srv/my project/workflow.yaml']).toBe('# commands\n')
    expect(cli.out).toContain("cd 'my project' && orrery run workflow.yaml")
  })

  test('touches nothing where one of the files is there already', async () => {
    const cli = new CliHarness()
    cli.files['/srv/workflow.yaml'] = 'mine'
    expect(await cli.run('init')).toBe(2)
    expect(cli.files['/srv/workflow.yaml']).toBe('mine')
    expect(cli.err).toContain('existing  workflow.yaml')
    expect(cli.err).toContain('Nothing was written')
  })

  test('an unknown template is answered with the nearest and with all there are', async () => {
    const cli = new CliHarness()
    expect(await cli.run('init', '--template', 'helo')).toBe(2)
    expect(cli.err).toContain('Did you mean hello?')
    expect(cli.err).toContain('commands (')
  })

  test('the help names every template', async () => {
    const cli = new CliHarness()
    expect(await cli.run('init', '--help')).toBe(0)
    for (const name of Object.keys(TEMPLATES)) expect(cli.out).toMatch(new RegExp(`--template[^]*\\b${name}\\b`))
  })
})
