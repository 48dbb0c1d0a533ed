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
  // Nobody named a model: what stands there instead says so, before the run and in the report.
  expect(first.stderr).toContain('No model was named. The executive summary is scripted')
  expect(readFileSync(report, 'utf8')).toMatch(/No model wrote this summary[^]*Written by a script, not by a model\./)
  const second = await quickstart()
  expect(second.code).toBe(0)
  expect(second.stdout).toContain('Skipped: ')
  expect(second.stdout).not.toContain('is approved')
})

test('lets the model of a file write the summary, from the measurements, and says which it is', async () => {
  const file = join(home, 'mine.yaml')
  const reply = { headline: 'One file, one author', text: 'It greets.', concerns: ['A TODO waits.'] }
  writeFileSync(
    file,
    `apiVersion: orrery.dev/v1
kind: ModelEndpoint
metadata: { name: summary-model }
spec:
  provider: mock
  model: mine
  mock: { replies: [{ when: 'Write the executive summary', json: ${JSON.stringify(reply)} }] }
`,
  )
  const told = await quickstart('--model', file)
  expect(told).toMatchObject({ code: 0 })
  const report = readFileSync(/Markdown +(.*)/.exec(told.stdout)?.[1] ?? '', 'utf8')
  expect(report).toMatch(
    /\*\*One file, one author\*\*\n\nIt greets\.\n\n- A TODO waits\.\n\n_Written by the model of .*mine\\?\.yaml\._/,
  )
})

test('a provider without its key is told, and what is no model is refused before anything runs', async () => {
  const child = startNode([SCRIPT, join(home, 'repo'), '--model', 'openai'], {
    env: { ORRERY_DATA_DIR: join(home, 'data'), OPENAI_API_KEY: '' },
  })
  expect((await child.ended).code).toBe(0)
  expect(child.stdout()).toContain('OPENAI_API_KEY is not set. The executive summary is scripted')
  const wrong = await quickstart('--model', 'no-such')
  expect(wrong).toMatchObject({ code: 2, stdout: '' })
  expect(wrong.stderr).toMatch(
    /--model no-such: there is no such file, and no provider of that name\. There are: .*anthropic/,
  )
})
