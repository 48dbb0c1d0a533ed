import type { Command } from 'commander'
import type { InitToolFlags, TestToolFlags } from '../commands/tool.ts'
import { examples, formats, json, type ProgramOptions } from './options.ts'

export function addTool(program: Command, { deps, output, done }: ProgramOptions): void {
  const tool = program
    .command('tool')
    .summary('begin and try tools of your own')
    .description(
      'Begins tools, and tries them as a worker would call them. Needs no server. orrery apply declares them.',
    )
    .addHelpText('after', examples('orrery tool init word-count', 'orrery tool test word-count'))
  tool
    .command('init')
    .description('Makes a directory with a manifest, an implementation and fixtures that pass at once.')
    .argument('<name>', 'name of the tool, and of its directory')
    .option('--type <type>', 'command, http, external, callback or wasm', 'command')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery tool init word-count', 'orrery tool init search --type external'))
    .action(async (name: string, flags: InitToolFlags) =>
      done(await (await import('../commands/tool.ts')).initTool(deps, output, name, flags)),
    )
  tool
    .command('test')
    .description(
      'Calls a tool with each of its fixtures, by the driver and in the isolation that a worker would use, and shows what differs.',
    )
    .argument('<place>', 'directory with tool.yaml, or a manifest')
    .option('--fixtures <file>', 'inputs with what has to come of them (default: fixtures.yaml beside the manifest)')
    .addOption(formats())
    .addOption(json())
    .addHelpText(
      'after',
      examples(
        'orrery tool test word-count',
        'orrery tool test tools/search.yaml --fixtures search.fixtures.yaml --json',
      ),
    )
    .action(async (place: string, flags: TestToolFlags) =>
      done(await (await import('../commands/tool.ts')).testTool(deps, output, place, flags)),
    )
}
