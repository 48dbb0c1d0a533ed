import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { commandsOf, examplesOf, meaningOf, program } from '../scripts/reference/commands.ts'
import { limitComments } from '../scripts/reference/numbers.ts'
import { shownCommands } from '../test/support/commands.ts'
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

describe('the documentation', () => {
  const ROOT = join(SOURCES, '..')
  const pages = ['README.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'SECURITY.md'].concat(
    readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.md') && !path.startsWith('reference'))
      .map((path) => join('docs', path)),
  )
  const all = new Map(commandsOf(program).map(({ name, command }) => [name, command]))

  /** What is wrong with a line that is shown; null: nothing. */
  function wrongWith(text: string): string | null {
    // Up to where the shell goes on with something else; what is said behind blanks or in brackets is a remark.
    const [typed = ''] = text.split(/\s(?:#|\||>|<|&&|;|\|\|)(?:\s|$)|;\s|\s{2,}|[)"']$/)
    const words = typed.split(/\s+/).slice(1)
    if (words.length === 0 || /^(?:-|[A-Z<…])/.test(words[0] ?? '')) return null
    let name = 'orrery'
    while (words[0] !== undefined && all.has(`${name} ${words[0]}`)) name += ` ${words.shift()}`
    const command = all.get(name)
    const isGroup = command !== undefined && command.commands.length > 0
    if (!command || (isGroup && /^[a-z]/.test(words[0] ?? ''))) return `there is no ${name} ${words[0]}`
    const known = [...command.options, ...program.options].flatMap((o) => [o.long, o.short])
    const flags = words.flatMap((word) => /^(--?[a-z][a-z-]*)/.exec(word)?.[1] ?? [])
    const unknown = flags.find((flag) => !known.includes(flag) && flag !== '--help' && flag !== '-h')
    return unknown === undefined ? null : `${name} has no ${unknown}`
  }

  test('shows only commands and options that there are', () => {
    const wrong = pages.flatMap((page) =>
      shownCommands(readFileSync(join(ROOT, page), 'utf8')).flatMap(({ line, text }) => {
        const problem = wrongWith(text)
        return problem === null ? [] : [`${page}:${line} ${text}: ${problem}`]
      }),
    )
    expect(wrong).toEqual([])
  })
})
