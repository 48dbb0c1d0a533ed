// Commands in full, as people use them: the examples of the guide, what goes wrong and how it is told, and what is planned.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectNoProcessLeft, runOrrery } from '../support/processes.ts'

let home = ''
const orrery = (...args: string[]) => runOrrery(args, { env: { ORRERY_DATA_DIR: join(home, 'data') }, cwd: home })

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-commands-'))
})
afterAll(async () => {
  await expectNoProcessLeft()
  await rm(home, { recursive: true, force: true })
})

async function fileOf(name: string, steps: string): Promise<string> {
  const head = `apiVersion: orrery.dev/v1\nkind: Workflow\nmetadata: { name: ${name} }\nspec:\n  steps:\n`
  await writeFile(join(home, `${name}.yaml`), head + steps.replaceAll(/^(?=.)/gm, '    '))
  return `${name}.yaml`
}

/** Runs steps to their end; gives the last line of what is printed for programs. */
async function run(name: string, steps: string) {
  const ran = await orrery('run', await fileOf(name, steps), '-o', 'json')
  const outcome = JSON.parse(ran.stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, unknown>
  return { ...ran, outcome }
}

describe('the examples of the guide', () => {
  const EXPECTED: Record<string, object> = {
    test: { test: { exitCode: 0 } },
    version: {
      version: 'v1.2',
      facts: { rows: 2 },
      report: [1, 2],
      notes: 'fine\n',
      dist: [{ name: 'app.bin', bytes: 4, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) }],
    },
    pick: { use: { exitCode: 0 } },
  }

  test('run as they stand there, and give what it says', async () => {
    const guide = await readFile(new URL('../../docs/guides/commands.md', import.meta.url), 'utf8')
    const blocks = [...guide.matchAll(/```yaml\n([^]*?)```/g)].map(([, yaml]) => yaml ?? '')
    const names = blocks.map((block) => /name: (\w+)/.exec(block)?.[1] ?? '')
    expect(names).toEqual(Object.keys(EXPECTED))
    for (const [i, name] of names.entries()) {
      const { outcome, stderr } = await run(`guide-${name}`, blocks[i] ?? '')
      expect(outcome, stderr).toMatchObject({ state: 'succeeded', outputs: EXPECTED[name] })
    }
  })
})

describe('what people see', () => {
  test('a set-up that fails is named, with what it printed; the command has not run', async () => {
    const file = await fileOf(
      'broken',
      `- name: build
  setUp: [echo fine, 'echo no such registry; exit 9']
  command: touch ${join(home, 'has-run')}
  tearDown: 'echo "ended: $ORRERY_OUTCOME"'
`,
    )
    const { code, stdout, stderr } = await orrery('run', file)
    expect(code).toBe(1)
    const said = stdout + stderr
    expect(said).toContain('step.exit_nonzero')
    expect(said).toContain('running set-up 2 of step build')
    expect(said).toContain('no such registry')
    await expect(readFile(join(home, 'has-run'))).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('a variable that cannot be handed on stops the step that wrote it', async () => {
    const { code, outcome } = await run(
      'refused',
      `- { name: a, command: 'echo "PATH=/tmp" >> $ORRERY_ENV', exportEnv: true }\n`,
    )
    expect(code).toBe(1)
    expect(outcome).toMatchObject({
      failure: { code: 'env.refused', evidence: { name: 'PATH', reason: 'the name is reserved' } },
    })
  })

  test('a plan says what goes round a command and who hands on to whom', async () => {
    const file = await fileOf(
      'planned',
      `- { name: a, command: x, setUp: [one, two], tearDown: three, exportEnv: true }
- { name: b, needs: [a], command: x, output: text }
`,
    )
    const { code, stdout } = await orrery('plan', file)
    expect(code).toBe(0)
    expect(stdout).toContain('a: 2 commands before it; one command after it, whatever happens; hands on variables')
    expect(stdout).toContain('b: its output is what it prints; variables from a')
  })
})
