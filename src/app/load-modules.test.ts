import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { commandEnv, loadModules } from './load-modules.ts'

describe('modules of functions', () => {
  const dir = mkdtempSync(join(tmpdir(), 'orrery-modules-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  const write = (name: string, text: string): string => {
    writeFileSync(join(dir, name), text)
    return join(dir, name)
  }

  test('are loaded under their names', async () => {
    const modules = await loadModules({ tools: write('good.mjs', 'export const add = (x) => x + 1') })
    expect(modules['tools']).toHaveProperty('add')
  })

  test.for([
    ['one that throws', 'throws.mjs', 'throw new Error("no licence file")', 'no licence file'],
    ['one that does not parse', 'broken.mjs', 'export const = 1', ''],
    ['one that is not there', null, '', 'missing.mjs'],
  ] as const)('%s is named with the error of the runtime', async ([, name, text, said]) => {
    const path = name === null ? join(dir, 'missing.mjs') : write(name, text)
    await expect(loadModules({ tools: path })).rejects.toMatchObject({
      code: 'module.load_failed',
      evidence: { module: 'tools', path },
      cause: { message: expect.stringContaining(said) },
    })
  })
})

test('commands get a few variables of the worker and none of its secrets', () => {
  expect(commandEnv({ PATH: '/bin', LANG: 'C', ORRERY_TOKEN: 'secret', HOME: undefined })).toEqual({
    PATH: '/bin',
    LANG: 'C',
  })
})
