import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectNoProcessLeft, runOrrery } from '../../test/support/processes.ts'

let home = ''
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-example-'))
})
afterAll(async () => {
  await expectNoProcessLeft()
  await rm(home, { recursive: true, force: true })
})

const WORKFLOW = join(import.meta.dirname, 'workflow.yaml')
const run = (...inputs: string[]) =>
  runOrrery(['run', WORKFLOW, ...inputs.flatMap((i) => ['--input', i]), '--data-dir', join(home, 'data')])

test('goes round until the review is content, then sends the last draft', async () => {
  const { code, stdout } = await run()
  expect({ code, stdout }).toMatchObject({ code: 0 })
  for (const turn of ['draft[0]', 'review[0]', 'draft[3]', 'review[3]']) expect(stdout).toContain(`${turn} `)
  expect(stdout).not.toContain('draft[4]')
  expect(stdout).toMatch(/send +succeeded/)
})

test('fails when its turns are used up, and tells how many each step has taken', async () => {
  const { code, stdout } = await run('most=12')
  expect(code).toBe(1)
  expect(stdout).toContain('turns.used_up')
  expect(stdout).toMatch(/maxTurns +5/)
  expect(stdout).toContain('review[4]')
  expect(stdout).toMatch(/send +blocked/)
})
