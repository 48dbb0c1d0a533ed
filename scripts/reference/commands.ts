import type { Command } from 'commander'
import { buildProgram } from '../../src/cli/program/program.ts'
import { MANUAL } from '../../src/cli/program/manual.ts'
import type { ProgramOptions } from '../../src/cli/program/options.ts'
import { settingRows, VARIABLES } from '../../src/cli/variables.ts'
import { code, page, table } from './text.ts'

// Only what a command says about itself is read; nothing of it runs, so nothing is handed to it.
export const program = buildProgram({ deps: { version: '' }, output: {}, done: () => {} } as unknown as ProgramOptions)

/** Every command that does something, with its whole name. */
export function commandsOf(command: Command, before = ''): { name: string; command: Command }[] {
  const name = before === '' ? command.name() : `${before} ${command.name()}`
  const below = command
    .createHelp()
    .visibleCommands(command)
    // Groups have one of their own, which is no command of ours.
    .filter((child) => child.name() !== 'help' || before === '')
  return [
    ...(below.length > 0 && before === '' ? [] : [{ name, command }]),
    ...below.flatMap((child) => commandsOf(child, name)),
  ]
}

/** The page of the command line. */
export function commandPage(): string {
  const all = commandsOf(program)
  return page(
    'Commands',
    'the program itself',
    'A flag wins over its variable, a variable over the file of [settings](settings.md), that over the default. Exit codes: [exit-codes.md](exit-codes.md).',
    'In a checkout `orrery` is `npm run orrery --`. All take `--color auto|always|never`; `orrery help` knows the topics `workflow`, `environment` and `exit-codes`.',
    '',
    ...table(
      ['command', ''],
      all
        .filter(({ command }) => command.commands.length === 0)
        .map(({ name, command }) => [
          `[\`${name}\`](#${anchorOf(name)})`,
          command.summary() || firstSentence(command.description()),
        ]),
    ),
    ...all.flatMap(({ name, command }) => sectionOf(name, command)),
  )
}

const anchorOf = (name: string): string => name.replaceAll(' ', '-')
const firstSentence = (text: string): string => text.split(/(?<=\.)\s/)[0] ?? text

function sectionOf(name: string, command: Command): string[] {
  const options = command.options.filter((option) => !option.hidden)
  const aliases = command.aliases()
  const lines = [`## ${name}`, '', command.description().replaceAll('\n', ' '), '']
  if (command.commands.length > 0) return lines
  const usage = command.registeredArguments.map((a) => {
    const word = a.variadic ? `${a.name()}...` : a.name()
    return a.required ? `<${word}>` : `[${word}]`
  })
  lines.push('```', [name, ...usage, ...(options.length > 0 ? ['[options]'] : [])].join(' '), '```', '')
  if (aliases.length > 0) lines.push(`Also: ${aliases.map(code).join(', ')}.`, '')
  const given = [
    ...command.registeredArguments.map((a) => [code(a.name()), a.description + choices(a)]),
    ...options.map((o) => [code(o.flags), o.description + choices(o) + fallback(o.defaultValue)]),
  ]
  if (given.length > 0) lines.push(...table(['argument or option', 'meaning'], given))
  const shown = examplesOf(command)
  if (shown.length > 0) lines.push('```sh', ...shown, '```', '')
  return [...lines, ...besideOf(name)]
}

/** Exit codes of a command beside those that all have, and what belongs to it. */
function besideOf(name: string): string[] {
  const entry = MANUAL[name.replace(/^orrery /, '')]
  if (!entry) return []
  const exits = Object.entries(entry.exits ?? {}).map(([exit, meaning]) => `${exit}: ${meaning}`)
  const also = entry.see.map((other) => {
    const whole = `orrery ${other}`
    return `[\`${whole}\`](#${anchorOf(other.startsWith('help ') ? 'orrery help' : whole)})`
  })
  return [
    ...(exits.length > 0 ? [`Exit codes of its own: ${exits.join('; ')}.`, ''] : []),
    `See also: ${also.join(', ')}.`,
    '',
  ]
}

/** What is accepted, where the description does not say it itself. */
const choices = ({ argChoices, description }: { argChoices?: string[] | undefined; description: string }): string =>
  argChoices && !argChoices.every((choice) => description.includes(choice)) ? ` (${argChoices.join(', ')})` : ''
const fallback = (value: unknown): string => (typeof value === 'string' ? ` (default: ${value})` : '')

/** What stands below "Examples:" in the help of a command. */
export function examplesOf(command: Command): string[] {
  let help = ''
  command.configureOutput({ writeOut: (text) => void (help += text) })
  command.outputHelp()
  const at = help.lastIndexOf('\nExamples:\n')
  return at < 0 ? [] : [...help.slice(at).matchAll(/^ {2}\$ (.+)$/gm)].map(([, line]) => line ?? '')
}

/** What an option of a server or a worker says of a setting, without the parenthesis that names its variable. */
export function meaningOf(flag: string): string {
  const [option] = commandsOf(program)
    .filter(({ name }) => name === 'orrery up' || name === 'orrery worker')
    .flatMap(({ command }) => command.options.filter((o) => o.long === flag))
  const meaning = option?.description.replace(/ \([^(]*\)$/, '') ?? ''
  return flag.startsWith('--no-') ? `false: ${meaning}` : meaning
}

/** The page of settings and variables. */
export function settingPage(): string {
  return page(
    'Settings and variables',
    'the tables of settings and of variables',
    '`orrery up` and `orrery worker` take settings as flags, as variables and, with `--config FILE`, from a YAML file of the keys below. A flag wins over its variable, a',
    'variable over the file, the file over the default. Paths in a file are relative to the file. A key or a value that is not known is refused with its line, before anything starts.',
    '',
    '```yaml',
    'store: postgres',
    'postgresDsn: postgres://orrery@db.example:5432/orrery',
    'host: 0.0.0.0',
    'tlsCert: server.pem',
    'tlsKey: server.key',
    'logDir: /var/log/orrery',
    '```',
    '',
    '## Settings',
    '',
    ...table(
      ['key', 'flag', 'variable', 'default', 'meaning', 'accepted'],
      settingRows().map((row) => [
        code(row.key),
        code(row.flag),
        code(row.variable),
        code(row.fallback),
        meaningOf(row.flag),
        row.accepted,
      ]),
    ),
    '## Variables that are no settings',
    '',
    ...table(
      ['variable', 'read or found by', 'meaning'],
      Object.entries(VARIABLES).map(([name, { of, meaning }]) => [code(name), of, meaning]),
    ),
    'Beside these, variables that begin with `ORRERY_SECRET_` (or what `--secrets-env-prefix` says) are places where [secrets](../guides/secrets.md) are looked for. No others are read.',
  )
}
