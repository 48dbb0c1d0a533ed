import type { Command } from 'commander'
import type { InitFlags } from '../commands/init.ts'
import type { ServerFlags } from '../commands/runs.ts'
import { examples, formats, json, withServer, type ProgramOptions } from './options.ts'

export function addExplain(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('explain')
    .summary('say why a run or step does not run, or all about a failure code')
    .description(
      'Says why a run or a step is not running, and what to do. Of a failure code: what it means; without an argument, lists all codes.',
    )
    .argument('[what]', 'run/RUN, step/RUN/STEP, a code such as step.timed_out, or a group such as step')
  withServer(command, 'name')
    .addHelpText(
      'after',
      examples('orrery explain run/RUN', "orrery explain 'step/RUN/measure[3]'", 'orrery explain step.timed_out'),
    )
    .action(async (what: string | undefined, flags: ServerFlags) => {
      const { explainTarget, parseTarget } = await import('../commands/explain-target.ts')
      const target = what === undefined ? null : parseTarget(what)
      if (target) return done(await explainTarget(deps, output, target, flags))
      done((await import('../commands/explain.ts')).explain(output, what))
    })
}

export function addInit(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('init')
    .summary('make a project that runs at once')
    .description('Makes a project that runs at once. Files that are there already are never touched.')
    .argument('[dir]', 'where to make it', '.')
    .option(
      '--template <name>',
      'hello (functions in TypeScript), commands (no code), agent, team or pipeline (agents on a scripted model)',
      'hello',
    )
    .addOption(formats())
    .addOption(json())
    .addHelpText(
      'after',
      examples('orrery init', 'orrery init nightly --template commands', 'orrery init helper --template agent'),
    )
    .action(async (directory: string, flags: InitFlags) =>
      done(await (await import('../commands/init.ts')).initProject(deps, output, directory, flags)),
    )
}

export function addCompletion(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('completion')
    .summary('print the completion script of a shell')
    .description('Prints the script that completes orrery in a shell.')
    .argument('<shell>', 'bash, zsh or fish')
    .addHelpText(
      'after',
      examples(
        'orrery completion bash > ~/.orrery-completion',
        'orrery completion fish > ~/.config/fish/completions/orrery.fish',
      ),
    )
    .action(async (shell: string) => done((await import('../commands/completion.ts')).printCompletion(output, shell)))
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action(async (words: string[]) =>
      done(await (await import('../commands/completion.ts')).complete(deps, output, program, words)),
    )
}

export function addVersion(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('version')
    .summary('print the version')
    .description('Prints the version; with --json also those of Node.js and the platform.')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery version', 'orrery version --json'))
    .action(() => {
      const { version } = deps
      if (output.isData) {
        output.printData({ version, node: process.versions.node, platform: process.platform, arch: process.arch })
      } else output.print(`orrery ${version}`)
      done(0)
    })
}

export function addHelp(program: Command, { output, done }: ProgramOptions): void {
  program
    .command('help')
    .summary('print help of a command or about a topic')
    .description('Prints the help of a command, or about a topic: workflow, environment or exit-codes.')
    .argument('[words...]', 'words of a command, or a topic')
    .addHelpText('after', examples('orrery help runs list', 'orrery help workflow', 'orrery help environment'))
    .action(async (words: string[]) =>
      done(await (await import('../commands/help.ts')).showHelp(output, program, words)),
    )
}
