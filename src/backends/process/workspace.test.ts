import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { rootPaths } from './layout.ts'
import { prepareRoot } from './workspace.ts'

let home = ''
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-workspace-'))
})
afterAll(() => rm(home, { recursive: true, force: true }))

test('commands that start at once in a new place make its directories together', async () => {
  for (let round = 0; round < 40; round++) {
    const paths = rootPaths(join(home, String(round), 'worker', 'commands'))
    await Promise.all(Array.from({ length: 16 }, () => prepareRoot(paths)))
    expect((await stat(paths.trash)).isDirectory()).toBe(true)
  }
})
