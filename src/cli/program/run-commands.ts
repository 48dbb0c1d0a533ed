import type { Command } from 'commander'
import type { PlanFlags } from '../commands/plan.ts'
import type { RunFlags } from '../commands/run.ts'
import { examples, formats, json, many, withSecrets, withServer, withStore, type ProgramOptions } from './options.ts'

export function addRun(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('run')
    .summary('run a workflow and follow it to its end')
    .description(
      'Runs a workflow and follows it to its end: with an engine in this process, or on a server with --server.\n' +
        'Interrupt once to cancel the run, twice to leave.',
    )
    .argument('<file>', 'manifest of the workflow, - for standard input, or NAME or NAME@VERSION of a stored one')
    .addOption(many('--input <name=value>', 'one input; @FILE reads the value from a file (repeatable)'))
    .option('--inputs <file>', 'JSON file of inputs; --input wins over it')
    .addOption(many('--label <name=value>', 'label of the run (repeatable)'))
    .option('--idempotency-key <key>', 'the same key gives the same run')
    .option('-n, --namespace <name>', 'namespace of a stored workflow (default: default)')
    .addOption(
      many(
        '-f, --filename <path>',
        'manifests of agents, tools and other resources that it uses; a directory is all of its manifests (repeatable)',
      ),
    )
    .option('--workflow <name>', 'which workflow of a file of several (default: the first)')
    .option('-y, --yes', 'approve what the run and the runs below it ask for')
    .option('--detach', 'start the run on a server, print its id and leave')
    .option('--timeout <duration>', 'cancel the run when it has not ended by then, such as 5m')
    .option('--tool-files <dir>', 'programs and modules of tools (ORRERY_TOOL_FILES)')
    .option(
      '--tool-commands <names>',
      'programs that tools may run without isolation, with commas between them; * is all (ORRERY_TOOL_COMMANDS)',
    )
    .option('--capacity <n>', 'steps at once in this process (ORRERY_CAPACITY, default 16)')
  withServer(withSecrets(withStore(command)))
    .addHelpText(
      'after',
      examples(
        'orrery run flow.yaml',
        'orrery run flow.yaml --input count=3 --input text=@letter.txt',
        'orrery run flow.yaml --server http://127.0.0.1:7780 --detach',
        'orrery run report@3 --input city=Oslo',
        'orrery run release.yaml --yes',
        'orrery run flows.yaml --workflow nightly',
        'orrery run letters.yaml -f agents/',
        'orrery run - < flow.yaml',
        'orrery run flow.yaml --json | jq .state',
      ),
    )
    .action(async (file: string, flags: RunFlags) => {
      const { runWorkflow } = await import('../commands/run.ts')
      done(await runWorkflow(deps, output, file, flags))
    })
}

export function addPlan(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('plan')
    .summary('show what a run of a workflow would do')
    .description(
      'Shows the graph of a workflow, its inputs and which steps would run where. Asks no server and runs nothing.',
    )
    .argument('<file>', 'manifest of the workflow; - reads standard input')
    .addOption(
      many(
        '-f, --filename <path>',
        'manifests of agents, tools and other resources that it uses; a directory is all of its manifests (repeatable)',
      ),
    )
    .option('--workflow <name>', 'which workflow of a file of several (default: the first)')
    .addOption(many('--input <name=value>', 'one input; @FILE reads the value from a file (repeatable)'))
    .option('--inputs <file>', 'JSON file of inputs; --input wins over it')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery plan flow.yaml', 'orrery plan flow.yaml --input count=3 --json'))
    .action(async (file: string, flags: PlanFlags) =>
      done(await (await import('../commands/plan.ts')).plan(deps, output, file, flags)),
    )
}
