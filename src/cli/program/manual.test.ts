import { describe, expect, test } from 'vitest'
import { FAILURES } from '../../domain/failures.ts'
import { TOPICS } from '../commands/help.ts'
import { SETTING_NAMES, SETTINGS, type Setting } from '../settings.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { everyCommand, parseOnly } from '../testing/every-command.ts'
import { MANUAL } from './manual.ts'

const all = everyCommand()
const pathsOf = new Set(all.map(({ path }) => path))

const helpOf = async (path: string): Promise<string> => {
  const cli = new CliHarness()
  expect(await cli.run(...path.split(' '), '--help')).toBe(0)
  return cli.out
}
const examplesIn = (help: string): string[] =>
  [...(help.split('\nExamples:\n')[1] ?? '').matchAll(/^ {2}\$ (.+)$/gm)].map(([, line]) => line ?? '')

/** The words that a shell would give to orrery, of the first command of it in a line. */
function wordsOf(line: string): string[] {
  const from = /(?:^|[\s(;|])orrery (.*)$/.exec(line)?.[1] ?? ''
  const words: string[] = []
  let isCut = false
  for (const [token] of from.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"|<>;&)])+|[|<>;&)]/g)) {
    isCut ||= /^[|<>;&)]$/.test(token)
    if (!isCut) words.push(token.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, a?: string, b?: string) => a ?? b ?? ''))
  }
  return words
}

describe.for(all.map((leaf) => [leaf.path, leaf.command] as const))('the page of orrery %s', ([path, command]) => {
  test('says what the command does, what each option means, how it exits and what belongs to it', async () => {
    const help = await helpOf(path)
    expect(command.description()).toMatch(/[.…]$/)
    for (const option of command.options) expect(option.description, option.flags).not.toBe('')
    for (const argument of command.registeredArguments) expect(argument.description, argument.name()).not.toBe('')
    expect(help).toContain('\nExit codes:\n  0    done\n')
    const known = new Set<number>([...Object.values(FAILURES).map((row) => row.exit), 0])
    for (const exit of Object.keys(MANUAL[path]?.exits ?? {})) expect(known).toContain(Number(exit))
    const also = MANUAL[path]?.see ?? []
    expect(also.length).toBeGreaterThan(0)
    for (const name of also) {
      if (name.startsWith('help ')) expect(Object.keys(TOPICS)).toContain(name.slice(5))
      else expect(pathsOf).toContain(name)
      expect(help.split('\nSee also:\n')[1]).toContain(`orrery ${name}`)
    }
  })

  test('has an example, and each is understood', async () => {
    const examples = examplesIn(await helpOf(path))
    expect(examples.length).toBeGreaterThan(0)
    for (const example of examples) expect(await parseOnly(wordsOf(example)), example).toBe(path)
  })

  test('names the variable and the default of each setting', () => {
    for (const name of SETTING_NAMES) {
      const setting: Setting = SETTINGS[name]
      const option = command.options.find((candidate) => candidate.long === setting.flag)
      // Other commands have flags of these names that are no settings.
      if (!option || (setting.flag === '--label' && !['up', 'worker'].includes(path))) continue
      expect(option.description, path).toContain(setting.env)
      const plain = ['string', 'number'].includes(typeof setting.fallback)
      if (plain) expect(option.description).toContain(`default ${String(setting.fallback)}`)
    }
  })
})

test('the program has the commands that its users were promised', () => {
  const promised =
    'up, run, apply, validate, diff, plan, get, describe, edit, delete, events, top, status, explain, can-i, doctor, logs, init, version, completion, help'
  const below = {
    runs: 'list, show, watch, logs, cancel, retry, approve, deny, wait',
    secret: 'set, list, show, delete, rotate',
    token: 'create, list, revoke',
    context: 'list, use, show, set, delete',
    auth: 'login, logout, whoami',
  }
  const paths = [
    ...promised.split(', '),
    ...Object.entries(below).flatMap(([group, names]) => names.split(', ').map((name) => `${group} ${name}`)),
  ]
  expect(paths.filter((path) => !pathsOf.has(path))).toEqual([])
})

test('the manual has no page of a command that is not there', () => {
  expect(Object.keys(MANUAL).filter((path) => !pathsOf.has(path))).toEqual([])
})

test('examples of groups and of the program are understood as well', async () => {
  for (const group of [
    '',
    'runs',
    'secret',
    'token',
    'auth',
    'context',
    'artifacts',
    'approvals',
    'workers',
    'models',
    'mcp',
  ]) {
    const examples = examplesIn(await helpOf(group).catch(() => ''))
    for (const example of examples) expect(pathsOf, example).toContain(await parseOnly(wordsOf(example)))
  }
})
