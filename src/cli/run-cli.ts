import { CommanderError, type Command } from 'commander'
import { Failure } from '../domain/failure.ts'
import { FAILURES } from '../domain/failures.ts'
import type { CliDeps } from './deps.ts'
import { type Format, guessFormat } from './formats.ts'
import { type Colours, Output } from './output.ts'
import { isFormatOption } from './program/options.ts'
import { buildProgram } from './program/program.ts'
import { failureOfParsing } from './usage.ts'

/** Runs one command line (without node and script) and gives its exit code. Never throws. */
export async function runCli(argv: readonly string[], given: CliDeps): Promise<number> {
  const deps = { ...given }
  const output = new Output(deps, { format: guessFormat(argv) })
  let exit = 0
  const program = buildProgram({ deps, output, done: (code) => void (exit = code) })
  let isUnderstood = false
  program.hook('preAction', async (_program, command) => {
    isUnderstood = true
    output.format = formatOf(command)
    output.colours = program.opts<{ color?: Colours }>().color ?? 'auto'
    // What draws on a terminal asks this.
    deps.colour = output.colours === 'auto' ? given.colour : output.colours === 'always'
    if (output.format === 'yaml') output.toYaml = (await import('./yaml-text.ts')).yamlOf
  })
  for (const command of commandsOf(program)) {
    command.exitOverride().configureOutput({
      writeOut: (text) => deps.stdout.write(text),
      // What commander refuses is told as a failure below; the help of a command that was named alone is not an error text.
      writeErr: (text) => (text.startsWith('error:') ? undefined : deps.stderr.write(text)),
      getOutHelpWidth: () => output.width,
      getErrHelpWidth: () => output.width,
    })
  }
  try {
    await program.parseAsync(argv.length === 0 ? ['--help'] : [...argv], { from: 'user' })
    return exit
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0
      if (error.code === 'commander.help') return FAILURES['request.invalid'].exit
      const at = commandAt(program, argv)
      const failure = failureOfParsing(error.message, at)
      return tell(deps, output, failure, { exit: FAILURES[failure.code].exit, command: at.name })
    }
    const failure = error instanceof Failure ? error : failureOfBug(deps, error)
    // Whatever a command line is refused for, nothing was done yet: that is wrong usage.
    const code = isUnderstood ? failure.code : 'request.invalid'
    return tell(deps, output, failure, { exit: FAILURES[code].exit, command: commandAt(program, argv).name })
  }
}

const commandsOf = (command: Command): Command[] => [command, ...command.commands.flatMap(commandsOf)]

/** The format that the flags of a command ask for. */
function formatOf(command: Command): Format {
  const { output, json } = command.opts<{ output?: string; json?: boolean }>()
  const given = command.options.some(isFormatOption) ? output : undefined
  // Its own parser took it, so it is one of the formats.
  return (given as Format | undefined) ?? (json ? 'json' : 'table')
}

/** The command that the words lead to, as far as they do. */
function commandAt(program: Command, argv: readonly string[]): { name: string; commands: string[] } {
  let command = program
  let name = program.name()
  for (const word of argv) {
    const next = command.commands.find((candidate) => candidate.name() === word)
    if (!next) break
    command = next
    name += ` ${word}`
  }
  return { name, commands: command.commands.map((candidate) => candidate.name()) }
}

function failureOfBug(deps: CliDeps, error: unknown): Failure {
  const place = deps.reportBug(error)
  return new Failure('internal.bug', 'running this command', {
    cause: error instanceof Error ? new Error(error.message) : String(error),
    remediation: place
      ? `This is a bug in Orrery. The details are in ${place}; please send them with a report.`
      : 'This is a bug in Orrery; please report it with the command that was given.',
  })
}

/** Says the failure and gives its exit code: one JSON line, or text without a stack. */
async function tell(
  deps: CliDeps,
  output: Output,
  failure: Failure,
  { exit, command }: { exit: number; command: string },
): Promise<number> {
  const record = failure.toRecord()
  if (output.format === 'json') {
    deps.stderr.write(`${JSON.stringify({ failure: record, exit })}\n`)
    return exit
  }
  const { failureLines } = await import('./failure-text.ts')
  const width = deps.stderr.isTty ? deps.stderr.columns : output.width
  const help = record.remediation.includes('--help') ? [] : [`${command} --help`]
  const next = record.code === 'request.invalid' ? help : [`orrery explain ${record.code}`]
  output.remark(...failureLines(record, { width, sources: output.sources, next }))
  return exit
}
