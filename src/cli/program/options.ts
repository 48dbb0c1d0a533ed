import { type Command, Option } from 'commander'
import type { CliDeps } from '../deps.ts'
import { type Format, parseFormat } from '../formats.ts'
import type { Output } from '../output.ts'

// What a command does is imported when it runs, so that --help loads nothing but the table of commands.

export interface ProgramOptions {
  deps: CliDeps
  output: Output
  /** Receives the exit code of the command that ran. */
  done(exit: number): void
}

const collect = (value: string, previous: string[] = []): string[] => [...previous, value]
export const many = (flags: string, description: string): Option => new Option(flags, description).argParser(collect)

export const json = (): Option => new Option('--json', 'print JSON, for programs')

/** `-o`: how the result is printed. `name` is for lists of what other commands take by name. */
export function formats(...more: 'name'[]): Option {
  const accepted: readonly Format[] = ['table', 'wide', 'json', 'yaml', ...more]
  const option = new Option('-o, --output <format>', `${accepted.slice(0, -1).join(', ')} or ${accepted.at(-1)}`)
  return option.choices(accepted).argParser((text) => parseFormat(text, accepted))
}

/** Some commands have an `-o` that names a file, or an `--output` of their own. */
export const isFormatOption = (option: Option): boolean =>
  option.long === '--output' && option.argChoices?.includes('table') === true

export const examples = (...lines: string[]): string => `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`

/** Options under a heading of their own in the help; what follows is under the usual one again. */
const under = (heading: string, command: Command, add: (command: Command) => Command): Command =>
  add(command.optionsGroup(heading)).optionsGroup('')

/** Which server is asked, and as whom. */
export const withConnection = (command: Command): Command =>
  under('Server:', command, (c) =>
    c
      .option(
        '--server <url>',
        'server to ask, or several of one installation, with commas (ORRERY_SERVER; else the context in use, else the local one)',
      )
      .option('--token <token>', 'token to show it (ORRERY_TOKEN; else that of the context, else the local one)')
      .option('--context <name>', 'server that you named: orrery context (ORRERY_CONTEXT)')
      .option('--ca <file>', 'authority to trust beside the known ones, PEM (ORRERY_CA)'),
  )

export const withServer = (command: Command, ...more: 'name'[]): Command =>
  withConnection(command)
    .addOption(formats(...more))
    .addOption(json())

/** The options of a command itself first, then what many have in common. */
export function usualFirst<T>(items: T[], visible: T[], groupOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const group of ['Options:', ...items.map(groupOf)]) if (!groups.has(group)) groups.set(group, [])
  for (const item of visible) groups.set(groupOf(item), [...(groups.get(groupOf(item)) ?? []), item])
  return new Map([...groups].filter(([, of]) => of.length > 0))
}

export const withLog = (command: Command): Command =>
  under('Log:', command, (c) =>
    c
      .option('--log-format <format>', 'text or json (ORRERY_LOG_FORMAT, default text)')
      .option('--log-level <level>', 'debug, info, warn or error (ORRERY_LOG_LEVEL, default info)')
      .option('--log-dir <dir>', 'keep the log in files too, server.log and worker.log (ORRERY_LOG_DIR)')
      .option('--log-file-size <MiB>', 'size at which such a file is put aside (ORRERY_LOG_FILE_SIZE, default 64)')
      .option('--log-files-kept <n>', 'how many of those are kept (ORRERY_LOG_FILES_KEPT, default 5)'),
  )

export const withStore = (command: Command): Command =>
  under('Store:', command, (c) =>
    c
      .option('--store <kind>', 'embedded or postgres (ORRERY_STORE, default embedded)')
      .option('--postgres-dsn <dsn>', 'address of PostgreSQL (ORRERY_POSTGRES_DSN)')
      .option('--data-dir <dir>', 'where the embedded store keeps its data (ORRERY_DATA_DIR)'),
  )

export const withSecrets = (command: Command): Command =>
  under('Secrets:', command, (c) =>
    c
      .option('--secrets-dir <dir>', 'files of secrets: DIR/NAMESPACE/NAME/KEY (ORRERY_SECRETS_DIR)')
      .option('--secrets-key-file <file>', 'keys that encrypt stored secrets (ORRERY_SECRETS_KEY_FILE)')
      .option(
        '--secrets-env-prefix <prefix>',
        'variables of secrets begin so (ORRERY_SECRETS_ENV_PREFIX, default ORRERY_SECRET_)',
      ),
  )
