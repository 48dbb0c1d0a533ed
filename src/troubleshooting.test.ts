import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isFailureCode } from './domain/failures.ts'

const ROOT = join(import.meta.dirname, '..')
const guide = readFileSync(join(ROOT, 'docs', 'troubleshooting.md'), 'utf8')

/** Entries of the guide: id to text, the heading included. */
const entries = new Map(
  guide
    .split(/^### /m)
    .slice(1)
    .map((text) => [/^[A-Z]{3}-\d+/.exec(text)?.[0] ?? text.slice(0, 20), text.split(/^## /m)[0] ?? '']),
)

const scenarios = readdirSync(join(ROOT, 'test', 'scenarios'))
  .filter((file) => /^[a-z]{3}-\d+\.test\.ts$/.test(file))
  .map((file) => file.replace('.test.ts', '').toUpperCase())

describe('the guide to troubleshooting', () => {
  test('has one entry for each scenario that has a test, and no other', () => {
    expect([...entries.keys()].toSorted()).toEqual(scenarios.toSorted())
  })

  test('names in each entry a command that shows it', () => {
    const without = [...entries].filter(([, text]) => !/`orrery [a-z]+/.test(text)).map(([id]) => id)
    expect(without).toEqual([])
  })

  test('names only codes that exist', () => {
    const named = [...guide.matchAll(/`([a-z]+\.[a-z_]+)`/g)].map((match) => match[1] ?? '')
    expect(named.filter((code) => code !== 'worker.ready' && !isFailureCode(code))).toEqual([])
  })
})
