// The quickstart on a small repository: what it shows, and that a second call does nothing again.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectNoProcessLeft, startNode } from '../support/processes.ts'

const SCRIPT = join(import.meta.dirname, '..', '..', 'scripts', 'quickstart.ts')

let home = ''
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'orrery-quickstart-'))
  const repo = join(home, 'repo')
  mkdirSync(join(repo, 'src'), { recursive: true })
  writeFileSync(join(repo, 'src', 'main.ts'), '// TODO: greet\nexport const greeting = "hello"\n')
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', ...args], { cwd: repo })
  git('init', '-q')
  git('add', '-A')
  git('commit', '-q', '-m', 'Begin')
})
afterAll(async () => {
  await expectNoProcessLeft()
  rmSync(home, { recursive: true, force: true })
})

async function quickstart(...flags: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = startNode([SCRIPT, join(home, 'repo'), ...flags], { env: { ORRERY_DATA_DIR: join(home, 'data') } })
  const { code } = await child.ended
  return { code, stdout: child.stdout(), stderr: child.stderr() }
}

test('reports, asks a run below whether to keep it, keeps it, and skips a state that was reported', async () => {
  const first = await quickstart('--json')
  expect(first.code).toBe(0)
  const told = first.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; [more: string]: unknown })
  expect(told.filter(({ type }) => type === 'approval')).toMatchObject([
    { approval: { step: 'agree', workflow: 'keep-report', state: 'approved' } },
  ])
  expect(told.at(-1)).toMatchObject({ type: 'outcome', state: 'succeeded' })
  const report = /Markdown +(.*)/.exec(first.stderr)?.[1] ?? ''
  expect(readFileSync(report, 'utf8')).toContain('main.ts')
  const second = await quickstart()
  expect(second.code).toBe(0)
  expect(second.stdout).toContain('Skipped: ')
  expect(second.stdout).not.toContain('is approved')
})
