import { Command, Option } from 'commander'
import { addAccess } from './access-commands.ts'
import { addPlan, addRun } from './run-commands.ts'
import { addDoctor, addLogs, addStatus, addUp, addWorker, addWorkers } from './server-commands.ts'
import { addArtifacts, addEvents, addRuns } from './runs-commands.ts'
import { addApprovals } from './approval-commands.ts'
import { addSecret } from './secret-commands.ts'
import { addCompletion, addExplain, addHelp, addInit, addVersion } from './general-commands.ts'
import { manualText } from './manual.ts'
import { addCosts } from './cost-commands.ts'
import { addMcp } from './mcp-commands.ts'
import { addMemory } from './memory-commands.ts'
import { addModels } from './model-commands.ts'
import { addTool } from './tool-commands.ts'
import { examples, type ProgramOptions, usualFirst } from './options.ts'
import { addResources } from './resource-commands.ts'

/** The whole command line: what there is, what it takes, what it says about itself. */
export function buildProgram(options: ProgramOptions): Command {
  const program = new Command('orrery')
    .description('Runs workflows durably on your own machines and names the cause and remedy of every failure.')
    .version(options.deps.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .addOption(
      new Option(
        '--color <when>',
        'auto, always or never (default auto: on a terminal, unless NO_COLOR is set)',
      ).choices(['auto', 'always', 'never']),
    )
    .configureHelp({ showGlobalOptions: true, optionDescription, groupItems: usualFirst })
    .addHelpText(
      'after',
      examples(
        'orrery run flow.yaml --input city=Oslo',
        'orrery up',
        'orrery runs list',
        'orrery explain step.timed_out',
      ),
    )
  program.commandsGroup('Run:')
  addRun(program, options)
  addPlan(program, options)
  addRuns(program, options)
  addApprovals(program, options)
  addEvents(program, options)
  addArtifacts(program, options)
  addExplain(program, options)
  program.commandsGroup('Declare:')
  addInit(program, options)
  addResources(program, options)
  addSecret(program, options)
  addModels(program, options)
  addTool(program, options)
  addCosts(program, options)
  addMcp(program, options)
  addMemory(program, options)
  program.commandsGroup('Serve:')
  addUp(program, options)
  addWorker(program, options)
  addWorkers(program, options)
  addStatus(program, options)
  addDoctor(program, options)
  addLogs(program, options)
  program.commandsGroup('Who may, and where:')
  addAccess(program, options)
  program.commandsGroup('Besides:')
  addCompletion(program, options)
  addVersion(program, options)
  // The groups have the usual one; that of the whole program knows topics too.
  program.helpCommand(false)
  addHelp(program, options)
  for (const { path, command } of leavesOf(program)) command.addHelpText('after', manualText(path, command))
  return program
}

/** What is accepted stands in the description already. */
const optionDescription = ({ description, defaultValue }: Option): string =>
  typeof defaultValue === 'string' ? `${description} (default ${defaultValue})` : description

/** Every command that does something, with the words that lead to it; hidden ones are left out. */
export function leavesOf(command: Command, words: readonly string[] = []): { path: string; command: Command }[] {
  if (command.commands.length === 0) return [{ path: words.join(' '), command }]
  return command.commands
    .filter((child) => !child.name().startsWith('__'))
    .flatMap((child) => leavesOf(child, [...words, child.name()]))
}
