import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { CliHarness } from '../testing/cli-harness.ts'
import { at, RUN_ID } from '../testing/scripted-client.ts'

const view = (name: string, text = `content of ${name}`) => ({
  step: 'build',
  name,
  bytes: text.length,
  sha256: createHash('sha256').update(text).digest('hex'),
  createdAt: at(0),
  expiresAt: at(3_600_000),
})
const withFile = (name = 'dist/app.txt') => {
  const cli = new CliHarness()
  cli.client.artifacts = [view(name)]
  return cli
}

describe('artifacts', () => {
  test('are listed with size, checksum and how long they are kept', async () => {
    const cli = withFile()
    expect(await cli.run('artifacts', 'list', RUN_ID)).toBe(0)
    expect(cli.out).toMatch(/build +dist\/app\.txt +23 B +[0-9a-f]{12} +1h/)
  })

  test('none is said, not an empty table', async () => {
    const cli = new CliHarness()
    expect(await cli.run('artifacts', 'list', RUN_ID)).toBe(0)
    expect(cli.out).toBe('')
    expect(cli.err).toContain(`No step of ${RUN_ID} left files`)
  })

  test('get writes the file under the last part of its name', async () => {
    const cli = withFile()
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'dist/app.txt')).toBe(0)
    expect(cli.files['/srv/app.txt']).toBe('content of dist/app.txt')
  })

  test('get never writes over a file unless told to', async () => {
    const cli = withFile()
    cli.files['/srv/app.txt'] = 'mine'
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'dist/app.txt')).toBe(2)
    expect(cli.files['/srv/app.txt']).toBe('mine')
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'dist/app.txt', '--force')).toBe(0)
    expect(cli.files['/srv/app.txt']).toBe('content of dist/app.txt')
  })

  test('what is not the file that was left gets no name', async () => {
    const cli = new CliHarness()
    cli.client.artifacts = [view('a', 'something else')]
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'a')).toBe(74)
    expect(cli.err).toContain('artifact.checksum_mismatch')
    expect(cli.files).toEqual({})
  })

  test('-o - writes to standard output', async () => {
    const cli = withFile()
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'dist/app.txt', '-o', '-')).toBe(0)
    expect(cli.out).toBe('content of dist/app.txt')
  })

  test('one that is not there is told by its code', async () => {
    const cli = withFile()
    expect(await cli.run('artifacts', 'get', RUN_ID, 'build', 'other')).toBe(66)
    expect(cli.err).toContain('artifact.not_found')
  })
})
