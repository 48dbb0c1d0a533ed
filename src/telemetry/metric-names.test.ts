import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { METRICS } from './metric-names.ts'

const ROOT = join(import.meta.dirname, '..', '..')

test('every metric is named by a test that moves it', () => {
  const tests = ['src', 'test'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.test.ts') && !path.endsWith('metric-names.test.ts'))
      .map((path) => readFileSync(join(ROOT, folder, path), 'utf8')),
  )
  const named = (name: string) => tests.some((text) => new RegExp(`\\b${name}\\b`).test(text))
  expect(Object.keys(METRICS).filter((name) => !named(name))).toEqual([])
})
