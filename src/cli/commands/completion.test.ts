import { describe, expect, test } from 'vitest'
import { Failure } from '../../domain/failure.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { RUN_ID, runView } from '../testing/scripted-client.ts'

const offered = async (words: string[], cli = new CliHarness()) => {
  expect(await cli.run('__complete', '--', ...words)).toBe(0)
  return cli.out.split('\n').flatMap((line) => (line === '' ? [] : [line.split('\t')[0] ?? '']))
}

describe('what a shell is offered', () => {
  test('commands, then the commands of a group', async () => {
    expect(await offered([''])).toEqual(expect.arrayContaining(['run', 'runs', 'up', 'explain', 'status', 'init']))
    expect(await offered([''])).not.toContain('__complete')
    expect(await offered(['ru'])).toEqual(['run', 'runs'])
    expect(await offered(['runs', 'w'])).toEqual(['watch', 'wait'])
  })

  test('options of the command, and the values of an option', async () => {
    expect(await offered(['runs', 'list', '--st'])).toEqual(['--state'])
    expect(await offered(['runs', 'list', '--state', 'fa'])).toEqual(['failed'])
    expect(await offered(['up', '--store', ''])).toEqual(['embedded', 'postgres'])
    expect(await offered(['runs', 'list', '-o', ''])).toEqual(['table', 'wide', 'json', 'yaml', 'name'])
    expect(await offered(['artifacts', 'get', 'RUN', 'build', 'file', '-o', ''])).toEqual([':files'])
    expect(await offered(['runs', 'list', '--color', 'a'])).toEqual(['auto', 'always'])
  })

  test('commands and topics where help is asked for', async () => {
    expect(await offered(['help', 'work'])).toEqual(['workflow', 'worker', 'workers'])
    expect(await offered(['help', 'e'])).toEqual(expect.arrayContaining(['environment', 'exit-codes', 'explain']))
  })

  test('runs of the server where a run is asked for', async () => {
    const cli = new CliHarness()
    cli.client.list = [runView()]
    expect(await offered(['runs', 'show', 'run_'], cli)).toEqual([RUN_ID])
  })

  test('runs to explain, under the name that explain takes them by', async () => {
    const cli = new CliHarness()
    cli.client.list = [runView()]
    expect(await offered(['explain', 'run/'], cli)).toEqual([`run/${RUN_ID}`])
  })

  test('nothing, and no error, when there is no server', async () => {
    const cli = new CliHarness()
    cli.startFailure = new Failure('client.server_unreachable', 'asking')
    expect(await offered(['runs', 'show', ''], cli)).toEqual([])
    expect(cli.err).toBe('')
  })

  test('files where a file is asked for, codes where a code is', async () => {
    expect(await offered(['run', 'fl'])).toEqual([':files'])
    expect(await offered(['up', '--config', ''])).toEqual([':files'])
    expect(await offered(['explain', 'step.timed'])).toEqual(['step.timed_out'])
    expect(await offered(['completion', 'z'])).toEqual(['zsh'])
  })
})

test('an unknown shell is answered with those there are', async () => {
  const cli = new CliHarness()
  expect(await cli.run('completion', 'bsh')).toBe(2)
  expect(cli.err).toContain('Did you mean bash? Shells are bash, zsh, fish.')
})
