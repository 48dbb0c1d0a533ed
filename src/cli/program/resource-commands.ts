import { type Command, Option } from 'commander'
import type { DeleteFlags } from '../commands/delete.ts'
import type { FileFlags } from '../commands/apply.ts'
import type { GetFlags } from '../commands/get.ts'
import type { ServerFlags } from '../commands/runs.ts'
import { examples, formats, json, many, withServer, type ProgramOptions } from './options.ts'

const files = (): Option => many('-f, --filename <file>', 'file, directory, or - for standard input (repeatable)')
const namespace = (text: string): Option => new Option('-n, --namespace <name>', text)
const KINDS = 'kind, such as workflow (wf) or secret (sec); KIND/NAME works too'

/** The commands that declare, show and change resources. */
export function addResources(program: Command, { deps, output, done }: ProgramOptions): void {
  withServer(program.command('apply').summary('store resources from files'))
    .description('Checks the resources of files here and stores them on a server: all of them, or none.')
    .addOption(files())
    .option('-R, --recursive', 'look into the directories below a directory too')
    .option('--dry-run', 'say what would be stored, and store nothing')
    .addOption(namespace('where documents go that name no namespace (default: default)'))
    .addHelpText('after', examples('orrery apply -f flow.yaml', 'orrery apply -f manifests --recursive --dry-run'))
    .action(async (flags: FileFlags) =>
      done(await (await import('../commands/apply.ts')).applyFiles(deps, output, flags)),
    )

  program
    .command('validate')
    .summary('check manifests without a server')
    .description('Checks manifests as apply does, without a server, and lists every problem with its place.')
    .argument('<files...>', 'files, directories, or - for standard input')
    .option('-R, --recursive', 'look into the directories below a directory too')
    .addOption(namespace('where documents go that name no namespace'))
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery validate flow.yaml', 'orrery validate manifests --recursive'))
    .action(async (paths: string[], flags: { recursive?: boolean; namespace?: string }) =>
      done(await (await import('../commands/apply.ts')).validateFiles(deps, output, paths, flags)),
    )

  withServer(program.command('diff').summary('show what apply would change'))
    .description(
      'Shows what apply would change on a server. Ends with 0 when nothing differs, with 1 when something does.',
    )
    .addOption(files())
    .option('-R, --recursive', 'look into the directories below a directory too')
    .addOption(namespace('where documents go that name no namespace'))
    .addHelpText('after', examples('orrery diff -f flow.yaml'))
    .action(async (flags: FileFlags) =>
      done(await (await import('../commands/apply.ts')).diffFiles(deps, output, flags)),
    )

  withServer(program.command('get').summary('list resources, or print some'), 'name')
    .description('Lists the resources of a kind, or prints those that are named.')
    .argument('<kind>', KINDS)
    .argument('[names...]', 'names; without any, all of the namespace')
    .option('-l, --selector <selector>', 'labels, such as team=core,tier!=web')
    .addOption(namespace('namespace to look in (default: default)'))
    .option('-A, --all-namespaces', 'look in all namespaces that the token may see')
    .option('-w, --watch', 'go on with what changes, until interrupted')
    .addHelpText(
      'after',
      examples('orrery get workflows', 'orrery get wf report -o yaml', 'orrery get workflows -A -l team=core --watch'),
    )
    .action(async (kind: string, names: string[], flags: GetFlags) =>
      done(await (await import('../commands/get.ts')).getResources(deps, output, { kind, names }, flags)),
    )

  withServer(program.command('describe').summary('show all that is known of a resource'))
    .description('Shows a resource with its conditions; of a workflow also its versions and its latest runs.')
    .argument('<kind>', KINDS)
    .argument('[names...]', 'name of the resource')
    .addOption(namespace('its namespace (default: default)'))
    .addHelpText('after', examples('orrery describe workflow report', 'orrery describe wf/report'))
    .action(async (kind: string, names: string[], flags: ServerFlags & { namespace?: string }) =>
      done(await (await import('../commands/get.ts')).describeResource(deps, output, { kind, names }, flags)),
    )

  withServer(program.command('edit').summary('change a resource in an editor'))
    .description('Opens a resource in the editor of VISUAL or EDITOR and stores what was saved.')
    .argument('<kind>', KINDS)
    .argument('[names...]', 'name of the resource')
    .addOption(namespace('its namespace (default: default)'))
    .addHelpText('after', examples('orrery edit workflow report', 'EDITOR="code --wait" orrery edit wf/report'))
    .action(async (kind: string, names: string[], flags: ServerFlags & { namespace?: string }) =>
      done(await (await import('../commands/edit.ts')).editResource(deps, output, { kind, names }, flags)),
    )

  withServer(program.command('delete').summary('delete resources'))
    .description('Deletes resources by kind and name, or those of files. Runs of a deleted workflow go on.')
    .argument('[kind]', KINDS)
    .argument('[names...]', 'names of the resources')
    .addOption(files())
    .option('-R, --recursive', 'look into the directories below a directory too')
    .addOption(namespace('their namespace (default: default)'))
    .option('--dry-run', 'check that they are there, and delete nothing')
    .option('--ignore-not-found', 'what is not there is no failure')
    .addHelpText('after', examples('orrery delete workflow report', 'orrery delete -f flow.yaml --ignore-not-found'))
    .action(async (kind: string | undefined, names: string[], flags: DeleteFlags) =>
      done(await (await import('../commands/delete.ts')).deleteResources(deps, output, { kind, names }, flags)),
    )
}
