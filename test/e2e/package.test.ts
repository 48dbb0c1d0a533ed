// The package as somebody installs it: packed, unpacked below node_modules, away from the checkout.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectNoProcessLeft, startNode } from '../support/processes.ts'

const REPOSITORY = join(import.meta.dirname, '..', '..')
const MODULES = join(REPOSITORY, 'node_modules')
const run = promisify(execFile)

/** What somebody writes who uses the package from a program, with every type checked. */
const PROGRAM = `import { type Client, Failure, openClient } from 'orrery'
import { defineFunction } from 'orrery/sdk'

const client: Client = openClient({ server: 'http://127.0.0.1:1', token: 'none' })
export const kept = defineFunction
try {
  const { items } = await client.listRuns({ limit: 1 })
  console.log(items.map((run) => run.id))
} catch (error: unknown) {
  console.log(error instanceof Failure ? error.code : error)
}
`
const TSCONFIG = {
  compilerOptions: { target: 'es2024', module: 'nodenext', strict: true, noEmit: true, types: ['node'] },
  files: ['program.ts'],
}

describe('the package', () => {
  let home = ''
  /** Ends as \`orrery\` in a project that has the package ends. */
  const orrery = async (
    args: string[],
    cwd = home,
  ): Promise<{ code: number | null; stdout: string; stderr: string }> => {
    const child = startNode([join(home, 'node_modules', '.bin', 'orrery'), ...args], { cwd })
    const { code } = await child.ended
    return { code, stdout: child.stdout(), stderr: child.stderr() }
  }

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-package-'))
    await run('npm', ['pack', '--silent', '--pack-destination', home], { cwd: REPOSITORY })
    const [archive = ''] = (await readdir(home)).filter((name) => name.endsWith('.tgz'))
    const into = join(home, 'node_modules', 'orrery')
    await mkdir(join(home, 'node_modules', '.bin'), { recursive: true })
    await mkdir(into)
    await run('tar', ['-xzf', join(home, archive), '-C', into, '--strip-components', '1'])
    // As an installation lays it out, without a network: what the package needs is what the checkout has.
    for (const name of await readdir(MODULES))
      if (!name.startsWith('.')) await symlink(join(MODULES, name), join(home, 'node_modules', name))
    await symlink(join('..', 'orrery', 'bin', 'orrery.mjs'), join(home, 'node_modules', '.bin', 'orrery'))
  }, 180_000)
  afterAll(async () => {
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('has the program, what it reads, and no tests and no sources', async () => {
    const files = await readdir(join(home, 'node_modules', 'orrery'), { recursive: true })
    expect(files).toEqual(expect.arrayContaining(['bin/orrery.mjs', 'dist/app/main.js', 'dist/store/schema.txt']))
    expect(files.filter((name) => name.startsWith('dist/store/migrations/')).sort()).toEqual(
      (await readdir(join(REPOSITORY, 'src', 'store', 'migrations')))
        .map((name) => `dist/store/migrations/${name}`)
        .sort(),
    )
    expect(files.filter((name) => /^(?:src|test)\b|\.test\.|\/testing\//.test(name))).toEqual([])
  })

  test('is a command: version, help, a project and its run', async () => {
    const { version } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string }
    expect(await orrery(['version'])).toEqual({ code: 0, stdout: `orrery ${version}\n`, stderr: '' })
    expect(await orrery(['help', 'workflow'])).toMatchObject({ code: 0, stderr: '' })
    expect(await orrery(['init', 'project'])).toMatchObject({ code: 0, stderr: '' })
    const ran = await orrery(
      ['run', 'workflow.yaml', '--data-dir', join(home, 'data'), '--json'],
      join(home, 'project'),
    )
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(ran.stdout.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({ state: 'succeeded' })
  })

  test('is a client and an SDK for programs, with types', async () => {
    await writeFile(join(home, 'program.ts'), PROGRAM)
    await writeFile(join(home, 'tsconfig.json'), JSON.stringify(TSCONFIG))
    await writeFile(join(home, 'package.json'), '{ "type": "module" }')
    const checked = await run(process.execPath, [join(MODULES, 'typescript', 'bin', 'tsc'), '-p', home])
    expect(checked.stdout).toBe('')
    const { stdout } = await run(process.execPath, ['program.ts'], { cwd: home })
    expect(stdout.trim()).toBe('client.server_unreachable')
  })
})
