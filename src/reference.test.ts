import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commandsOf, examplesOf, meaningOf, program } from '../scripts/reference/commands.ts'
import { limitComments } from '../scripts/reference/numbers.ts'
import { settingRows, VARIABLES } from './cli/variables.ts'
import { LIMITS } from './domain/limits.ts'

const SOURCES = import.meta.dirname

describe('the reference has something to say about', () => {
  const doing = commandsOf(program).filter(({ command }) => command.commands.length === 0)

  test.each(doing.map(({ name, command }) => [name, command] as const))('%s', (_, command) => {
    expect(command.description()).toMatch(/\.$/)
    expect(command.options.filter((option) => option.description === '').map((option) => option.flags)).toEqual([])
    expect(command.registeredArguments.filter((argument) => argument.description === '')).toEqual([])
    expect(examplesOf(command)).not.toEqual([])
  })

  test('every setting', () => {
    expect(settingRows().filter((row) => meaningOf(row.flag) === '' || row.accepted === '')).toEqual([])
  })

  test('every limit', () => {
    const comments = limitComments(readFileSync(join(SOURCES, 'domain', 'limits.ts'), 'utf8'))
    expect(Object.keys(LIMITS).filter((name) => !comments.get(name))).toEqual([])
  })

  test('every variable that is read or given to commands', () => {
    const known = new Set([...Object.keys(VARIABLES), ...settingRows().map((row) => row.variable)])
    const found = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !/\.(test|suite)\.ts$|testing\//.test(path))
      .flatMap((path) => {
        const text = readFileSync(join(SOURCES, path), 'utf8')
        const read = text.matchAll(/env\['([A-Z][A-Z_]+)'\]|get\('([A-Z][A-Z_]+)'\)|'(ORRERY_[A-Z_]+)'/g)
        return [...read].map(([, a, b, c]) => a ?? b ?? c ?? '')
      })
    // A prefix is no variable; the others are the system's, or only tell where we are.
    const ours = [...new Set(found)].filter(
      (name) => !name.endsWith('_') && !['PATH', 'KUBERNETES_SERVICE_HOST'].includes(name),
    )
    expect(ours.filter((name) => !known.has(name))).toEqual([])
    expect(ours.length).toBeGreaterThan(20)
  })
})
