// What somebody types in the first minutes: a project, its run, completion in a shell.
import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { TEMPLATES } from '../../src/cli/commands/init.ts'
import { expectNoProcessLeft, runOrrery } from '../support/processes.ts'

const REPOSITORY = join(import.meta.dirname, '..', '..')

describe('orrery init', () => {
  let home = ''
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-e2e-'))
  })
  afterAll(async () => {
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('knows every template of the package', async () => {
    expect((await readdir(join(REPOSITORY, 'templates'))).sort()).toEqual(Object.keys(TEMPLATES).sort())
  })

  test.each(Object.keys(TEMPLATES))('%s: the project runs at once, and is not written over', async (template) => {
    const made = await runOrrery(['init', template, '--template', template], { cwd: home })
    expect(made).toMatchObject({ code: 0, stderr: '' })
    const directory = join(home, template)
    const ran = await runOrrery(['run', 'workflow.yaml', '--data-dir', join(home, 'data'), '--json'], {
      cwd: directory,
    })
    const outcome = JSON.parse(ran.stdout.trimEnd().split('\n').at(-1) ?? '') as {
      state: string
      outputs: Record<string, unknown>
    }
    expect(outcome.state).toBe('succeeded')
    // Whoever tries it sees what came of it, and not that a program ended well.
    expect(Object.values(outcome.outputs)).not.toEqual([])
    expect(Object.values(outcome.outputs)).not.toContainEqual({ exitCode: 0 })
    const again = await runOrrery(['init', template, '--template', template], { cwd: home })
    expect(again.code).toBe(2)
    expect(again.stderr).toMatch(/existing .*workflow\.yaml/)
  })
})

describe('completion in bash', () => {
  /** What bash offers after these words, with the last one not finished. */
  const offered = (words: string[]): string[] => {
    const orrery = `orrery() { ${JSON.stringify(process.execPath)} ${JSON.stringify(join(REPOSITORY, 'bin', 'orrery.mjs'))} "$@"; }`
    const typed = ['orrery', ...words].map((word) => JSON.stringify(word)).join(' ')
    const script = `${orrery}
source <(orrery completion bash)
COMP_WORDS=(${typed}); COMP_CWORD=${words.length}
_orrery
printf '%s\\n' "\${COMPREPLY[@]}"`
    return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).split('\n').filter(Boolean)
  }

  test('offers commands and options', () => {
    expect(offered(['runs', 'wa'])).toEqual(['watch', 'wait'])
    expect(offered(['runs', 'list', '--state', 'f'])).toEqual(['failed'])
  })
})
