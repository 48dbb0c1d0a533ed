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

async function blocksOf(page: string): Promise<string[]> {
  const guide = await readFile(new URL(`../../docs/guides/${page}`, import.meta.url), 'utf8')
  return [...guide.matchAll(/```yaml\n([^]*?)```/g)].map(([, yaml]) => yaml ?? '')
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
    const blocks = await blocksOf('commands.md')
    const names = blocks.map((block) => /name: (\w+)/.exec(block)?.[1] ?? '')
    expect(names).toEqual(Object.keys(EXPECTED))
    for (const [i, name] of names.entries()) {
      const { outcome, stderr } = await run(`guide-${name}`, blocks[i] ?? '')
      expect(outcome, stderr).toMatchObject({ state: 'succeeded', outputs: EXPECTED[name] })
    }
  })
})

describe('files from step to step', () => {
  test('are where the guide says', async () => {
    const [, later = ''] = await blocksOf('files.md')
    expect(later).toContain('from: build')
    const { outcome, stderr } = await run('guide-files', later)
    expect(outcome, stderr).toMatchObject({ state: 'succeeded', outputs: { pack: './in/dist/app.txt\napp' } })
  })

  test('reach functions, which leave some of their own', async () => {
    await writeFile(
      join(home, 'tools.mjs'),
      `export const report = async (_, { files }) => {
         const text = Buffer.from(await files.read('in/a.txt')).toString()
         await files.put('out/upper.txt', text.toUpperCase())
         return files.given.map((file) => file.name)
       }`,
    )
    const file = await fileOf(
      'functions',
      `- { name: a, command: 'echo hello > a.txt', artifacts: [a.txt] }
- { name: f, function: tools.report, needs: [a], files: [{ from: a, to: in }] }
- { name: b, command: cat out/upper.txt, needs: [f], files: [{ from: f }], output: text }
- { name: c, command: 'true', needs: [f], files: [{ from: f, path: '*.pdf' }], onFailure: continue }
`,
    )
    const text = await readFile(join(home, file), 'utf8')
    await writeFile(join(home, file), text.replace('spec:', 'spec:\n  modules: { tools: ./tools.mjs }'))
    const ran = await orrery('run', file, '-o', 'json')
    expect(ran.stdout).toContain('files.none_found')
    const outcome = JSON.parse(ran.stdout.trim().split('\n').at(-1) ?? '{}') as { outputs: object }
    expect(outcome.outputs, ran.stderr).toMatchObject({ b: 'HELLO' })
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
