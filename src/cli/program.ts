import { Command, Option } from 'commander'
import type { ConfigFlags } from './commands/up.ts'
import type { GetArtifactFlags } from './commands/artifacts.ts'
import type { InitFlags } from './commands/init.ts'
import type { ApprovalListFlags, DecisionFlags, SendFlags } from './commands/approvals.ts'
import type { LogFlags, ListFlags, ServerFlags, SkipFlags } from './commands/runs.ts'
import type { DoctorFlags } from './commands/doctor.ts'
import type { ComponentLogFlags } from './commands/logs.ts'
import type { PlanFlags } from './commands/plan.ts'
import type { RunFlags } from './commands/run.ts'
import type { TopFlags } from './commands/status.ts'
import type { EventFlags, TimedFlags } from './commands/watch.ts'
import type { RotateFlags, SecretFlags, SetFlags, ShowFlags } from './commands/secret.ts'
import type { WorkerFlags } from './commands/worker.ts'
import type { CliDeps } from './deps.ts'
import type { Output } from './output.ts'
import { addResources } from './resource-program.ts'
import { addAccess } from './program-access.ts'

// What a command does is imported when it runs, so that --help loads nothing but this table.

export interface ProgramOptions {
  deps: CliDeps
  output: Output
  /** Receives the exit code of the command that ran. */
  done(exit: number): void
}

const collect = (value: string, previous: string[] = []): string[] => [...previous, value]
const many = (flags: string, description: string): Option => new Option(flags, description).argParser(collect)

const json = (): Option => new Option('--json', 'print JSON, for programs')

const examples = (...lines: string[]): string => `\nExamples:\n${lines.map((line) => `  $ ${line}`).join('\n')}`

function withServer(command: Command): Command {
  return command
    .option('--server <url>', 'server to ask (ORRERY_SERVER; else the context in use, else the local one)')
    .option('--token <token>', 'token to show it (ORRERY_TOKEN; else that of the context, else the local one)')
    .option('--context <name>', 'server that you named: orrery context (ORRERY_CONTEXT)')
    .option('--ca <file>', 'authority to trust beside the known ones, PEM (ORRERY_CA)')
    .addOption(json())
}

function withLog(command: Command): Command {
  return command
    .option('--log-format <format>', 'text or json (ORRERY_LOG_FORMAT, default text)')
    .option('--log-level <level>', 'debug, info, warn or error (ORRERY_LOG_LEVEL, default info)')
    .option('--log-dir <dir>', 'keep the log in files too, server.log and worker.log (ORRERY_LOG_DIR)')
    .option('--log-file-size <MiB>', 'size at which such a file is put aside (ORRERY_LOG_FILE_SIZE, default 64)')
    .option('--log-files-kept <n>', 'how many of those are kept (ORRERY_LOG_FILES_KEPT, default 5)')
}

function withStore(command: Command): Command {
  return command
    .option('--store <kind>', 'embedded or postgres (ORRERY_STORE, default embedded)')
    .option('--postgres-dsn <dsn>', 'address of PostgreSQL (ORRERY_POSTGRES_DSN)')
    .option('--data-dir <dir>', 'where the embedded store keeps its data (ORRERY_DATA_DIR)')
}

function withSecrets(command: Command): Command {
  return command
    .option('--secrets-dir <dir>', 'files of secrets: DIR/NAMESPACE/NAME/KEY (ORRERY_SECRETS_DIR)')
    .option('--secrets-key-file <file>', 'keys that encrypt stored secrets (ORRERY_SECRETS_KEY_FILE)')
    .option('--secrets-env-prefix <prefix>', 'variables of secrets begin so (default ORRERY_SECRET_)')
}

/** The whole command line: what there is, what it takes, what it says about itself. */
export function buildProgram(options: ProgramOptions): Command {
  const program = new Command('orrery')
    .description('Runs workflows durably on your own machines and names the cause and remedy of every failure.')
    .version(options.deps.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .addHelpText(
      'after',
      examples(
        'orrery run flow.yaml --input city=Oslo',
        'orrery up',
        'orrery runs list',
        'orrery explain step.timed_out',
      ),
    )
  addRun(program, options)
  addPlan(program, options)
  addUp(program, options)
  addWorker(program, options)
  addRuns(program, options)
  addEvents(program, options)
  addArtifacts(program, options)
  addResources(program, options, { withServer, examples })
  addApprovals(program, options)
  addWorkers(program, options)
  addStatus(program, options)
  addLogs(program, options)
  addSecret(program, options)
  addAccess(program, options, { withServer, many, json, examples })
  addExplain(program, options)
  addInit(program, options)
  addCompletion(program, options)
  addDoctor(program, options)
  addVersion(program, options)
  return program
}

function addRun(program: Command, { deps, output, done }: ProgramOptions): void {
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
    .option('--detach', 'start the run on a server, print its id and leave')
    .option('--timeout <duration>', 'cancel the run when it has not ended by then, such as 5m')
    .option('--capacity <n>', 'steps at once in this process (ORRERY_CAPACITY, default 16)')
  withServer(withSecrets(withStore(command)))
    .addHelpText(
      'after',
      examples(
        'orrery run flow.yaml',
        'orrery run flow.yaml --input count=3 --input text=@letter.txt',
        'orrery run flow.yaml --server http://127.0.0.1:7780 --detach',
        'orrery run report@3 --input city=Oslo',
        'orrery run flow.yaml --json | jq .state',
      ),
    )
    .action(async (file: string, flags: RunFlags) => {
      const { runWorkflow } = await import('./commands/run.ts')
      done(await runWorkflow(deps, output, file, flags))
    })
}

function addPlan(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('plan')
    .summary('show what a run of a workflow would do')
    .description(
      'Shows the graph of a workflow, its inputs and which steps would run where. Asks no server and runs nothing.',
    )
    .argument('<file>', 'manifest of the workflow; - reads standard input')
    .addOption(many('--input <name=value>', 'one input; @FILE reads the value from a file (repeatable)'))
    .option('--inputs <file>', 'JSON file of inputs; --input wins over it')
    .addOption(json())
    .addHelpText('after', examples('orrery plan flow.yaml', 'orrery plan flow.yaml --input count=3 --json'))
    .action(async (file: string, flags: PlanFlags) =>
      done(await (await import('./commands/plan.ts')).plan(deps, output, file, flags)),
    )
}

function addUp(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('up')
    .summary('start a server with a worker inside')
    .description(
      'Starts a server with a worker inside. A flag wins over its variable, a variable over the file, the file over the default.',
    )
    .option('--config <file>', 'YAML file of settings (ORRERY_CONFIG)')
  withLog(
    withSecrets(withStore(command))
      .option('--host <host>', 'address to listen on (ORRERY_HOST, default 127.0.0.1)')
      .option('--port <port>', 'port to listen on, 0 takes a free one (ORRERY_PORT, default 7780)')
      .option('--tls-cert <file>', 'certificate with its chain, PEM: HTTPS is spoken (ORRERY_TLS_CERT)')
      .option('--tls-key <file>', 'key of the certificate, PEM (ORRERY_TLS_KEY)')
      .option(
        '--insecure-http',
        'plain HTTP beyond this machine, behind a proxy that speaks TLS (ORRERY_INSECURE_HTTP)',
      )
      .addOption(
        many(
          '--trusted-proxy <cidr>',
          'proxy whose X-Forwarded-* headers are believed (repeatable; ORRERY_TRUSTED_PROXIES)',
        ),
      )
      .addOption(many('--cors-origin <origin>', 'origin whose pages may ask (repeatable; ORRERY_CORS_ORIGINS)'))
      .addOption(many('--module <name=path>', 'module of functions for the worker (repeatable; ORRERY_MODULES)'))
      .option('--capacity <n>', 'steps at once of the worker (ORRERY_CAPACITY, default 16)')
      .addOption(many('--label <name=value>', 'label of the worker (repeatable; ORRERY_LABELS)'))
      .option('--no-worker', 'a server alone (ORRERY_WORKER=false)')
      .option('--no-metrics', 'no /metrics (ORRERY_METRICS=false)'),
  )
    .addOption(json())
    .addHelpText(
      'after',
      examples(
        'orrery up',
        'orrery up --module tools=./tools.ts --capacity 4',
        'orrery up --store postgres --postgres-dsn postgres://orrery:secret@db.example:5432/orrery',
        'orrery up --config orrery.yaml --no-worker',
        'orrery up --host 0.0.0.0 --tls-cert server.pem --tls-key server.key',
        'orrery up --host 0.0.0.0 --insecure-http --trusted-proxy 10.0.0.0/8',
      ),
    )
    .action(async (flags: ConfigFlags & { json?: boolean }) => {
      const { runUp } = await import('./commands/up.ts')
      const { json: _, ...rest } = flags
      done(await runUp(deps, output, rest))
    })
}

function addWorker(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('worker')
    .summary('take work from a server')
    .description('Takes work from a server. Interrupt once to finish what runs, twice to leave at once.')
    .option('--name <name>', 'name of the worker (ORRERY_WORKER_NAME, default the host name)')
    .addOption(many('--module <name=path>', 'module of functions (repeatable; ORRERY_MODULES)'))
    .option('--capacity <n>', 'steps at once (ORRERY_CAPACITY, default 16)')
    .addOption(many('--label <name=value>', 'label that steps may ask for with runsOn (repeatable; ORRERY_LABELS)'))
    .addOption(many('--namespace <name>', 'take work of this namespace alone (repeatable)'))
    .option('--workspace <dir>', 'where commands run (ORRERY_WORKSPACE)')
    .option('--metrics-port <port>', 'port to give metrics at, 0 takes a free one (ORRERY_METRICS_PORT, default none)')
    .option('--metrics-host <host>', 'address to give them at (ORRERY_METRICS_HOST, default 127.0.0.1)')
    .option('--config <file>', 'YAML file of settings (ORRERY_CONFIG)')
  withServer(withLog(command))
    .addHelpText(
      'after',
      examples(
        'orrery worker --server http://orrery.example:7780 --module tools=./tools.ts',
        'orrery worker --label gpu=yes --capacity 2',
      ),
    )
    .action(async (flags: WorkerFlags & { json?: boolean }) => {
      const { runWorker } = await import('./commands/worker.ts')
      const { json: _, ...rest } = flags
      done(await runWorker(deps, output, rest))
    })
}

function addRuns(program: Command, { deps, output, done }: ProgramOptions): void {
  const runs = program
    .command('runs')
    .summary('list, show, cancel and mend runs')
    .description('Lists, shows, cancels and mends runs. A run may be named by an end of its id that fits no other.')
    .addHelpText('after', examples('orrery runs list --state failed', 'orrery runs show RUN', 'orrery runs retry RUN'))
  withServer(runs.command('list').description('Lists runs, the newest first.'))
    .addOption(many('--state <state>', 'runs in this state alone (repeatable)'))
    .option('--workflow <name>', 'runs of this workflow alone')
    .option('--namespace <name>', 'runs of this namespace alone')
    .option('--limit <n>', 'how many at most', '50')
    .addHelpText('after', examples('orrery runs list', 'orrery runs list --state failed --workflow nightly'))
    .action(async (flags: ListFlags) => done(await (await import('./commands/runs.ts')).listRuns(deps, output, flags)))
  withServer(runs.command('show').description('Shows a run: its steps, what they wait for, what failed and why.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs show RUN', 'orrery runs show RUN --json | jq .stepList'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('./commands/runs.ts')).showRun(deps, output, id, flags)),
    )
  withServer(runs.command('watch').description('Draws a run until it has ended. Leaving it changes nothing.'))
    .argument('<run>', 'id of the run')
    .option('--timeout <duration>', 'leave when it has not ended by then, such as 5m; exit code 124')
    .addHelpText('after', examples('orrery runs watch RUN', 'orrery runs watch RUN --json'))
    .action(async (id: string, flags: TimedFlags) =>
      done(await (await import('./commands/watch.ts')).watchRun(deps, output, id, flags)),
    )
  withServer(runs.command('wait').description('Waits until runs have ended; the exit code is the first bad outcome.'))
    .argument('<runs...>', 'ids of runs')
    .option('--timeout <duration>', 'leave when they have not ended by then, such as 5m; exit code 124')
    .addHelpText('after', examples('orrery runs wait RUN', 'orrery runs wait RUN OTHER --timeout 10m && echo good'))
    .action(async (ids: string[], flags: TimedFlags) =>
      done(await (await import('./commands/watch.ts')).waitForRuns(deps, output, ids, flags)),
    )
  withServer(runs.command('logs').description('Prints what the steps of a run wrote.'))
    .argument('<run>', 'id of the run')
    .option('-f, --follow', 'go on until the run has ended')
    .option('--step <name>', 'of this step alone, such as build or measure[3]')
    .addHelpText('after', examples('orrery runs logs RUN -f', "orrery runs logs RUN --step 'measure[3]'"))
    .action(async (id: string, flags: LogFlags) =>
      done(await (await import('./commands/runs.ts')).showLogs(deps, output, id, flags)),
    )
  withServer(runs.command('cancel').description('Stops a run; what succeeded stays.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs cancel RUN'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('./commands/runs.ts')).cancelRun(deps, output, id, flags)),
    )
  withServer(runs.command('retry').description('Runs the failed part of a run again; what succeeded stays.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs retry RUN'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('./commands/runs.ts')).retryRun(deps, output, id, flags)),
    )
  withServer(runs.command('skip').description('Skips a step that waits, failed or is blocked; what needs it goes on.'))
    .argument('<run>', 'id of the run')
    .argument('<step>', 'name of the step')
    .option('--output <json>', 'output to use instead, or @FILE', 'null')
    .addHelpText('after', examples(`orrery runs skip RUN approve --output '{"approved": true}'`))
    .action(async (id: string, step: string, flags: SkipFlags) =>
      done(await (await import('./commands/runs.ts')).skipStep(deps, output, { id, step }, flags)),
    )
}

function addEvents(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('events')
    .summary('tell what happened in a run')
    .description('Prints the events of a run, a line a change, until it has ended.')
    .argument('<run>', 'id of the run')
    .option('--after <n>', 'begin after the event with this number')
    .option('--once', 'print what is there now and leave')
    .option('--timeout <duration>', 'leave after this time, such as 30s')
    .option('--raw', 'print each event as the server sends it, a JSON object a line')
  withServer(command)
    .addHelpText('after', examples('orrery events RUN', 'orrery events RUN --once --raw | jq .changes'))
    .action(async (id: string, flags: EventFlags) =>
      done(await (await import('./commands/watch.ts')).showEvents(deps, output, id, flags)),
    )
}

function addArtifacts(program: Command, { deps, output, done }: ProgramOptions): void {
  const artifacts = program
    .command('artifacts')
    .summary('list and fetch files that steps left')
    .description('Lists and fetches files that the steps of a run left.')
    .addHelpText(
      'after',
      examples('orrery artifacts list RUN', 'orrery artifacts get RUN build dist/app.tar -o app.tar'),
    )
  withServer(artifacts.command('list').description('Lists the files that the steps of a run left.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery artifacts list RUN', 'orrery artifacts list RUN --json | jq .artifacts'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('./commands/artifacts.ts')).listArtifacts(deps, output, id, flags)),
    )
  withServer(artifacts.command('get').description('Fetches one file; its checksum is checked before it gets its name.'))
    .argument('<run>', 'id of the run')
    .argument('<step>', 'name of the step, such as build or measure[3]')
    .argument('<name>', 'name of the file, as the list shows it')
    .option('-o, --output <file>', 'where to write it; - is standard output; default: the last part of its name')
    .option('--force', 'write over a file that is there')
    .addHelpText(
      'after',
      examples('orrery artifacts get RUN build dist/app.tar', 'orrery artifacts get RUN build report.txt -o -'),
    )
    .action(async (run: string, step: string, name: string, flags: GetArtifactFlags) =>
      done(await (await import('./commands/artifacts.ts')).getArtifact(deps, output, { run, step, name }, flags)),
    )
}

function addStatus(program: Command, { deps, output, done }: ProgramOptions): void {
  withServer(
    program
      .command('status')
      .summary('say what a server is doing')
      .description(
        'Says what a server is doing: live runs, workers, what waits. Exit code 1 when steps wait that no worker serves.',
      ),
  )
    .addHelpText('after', examples('orrery status', 'orrery status --json | jq .queues'))
    .action(async (flags: ServerFlags) =>
      done(await (await import('./commands/status.ts')).showStatus(deps, output, flags)),
    )
  withServer(
    program
      .command('top')
      .summary('watch what a server is doing')
      .description('Draws the status and the live runs of a server again and again, until interrupted.')
      .option('--interval <seconds>', 'seconds between two looks', '2'),
  )
    .addHelpText('after', examples('orrery top', 'orrery top --interval 10'))
    .action(async (flags: TopFlags) => done(await (await import('./commands/status.ts')).showTop(deps, output, flags)))
}

function addInit(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('init')
    .summary('make a project that runs at once')
    .description('Makes a project that runs at once. Files that are there already are never touched.')
    .argument('[dir]', 'where to make it', '.')
    .option('--template <name>', 'hello (functions in TypeScript) or commands (no code)', 'hello')
    .addOption(json())
    .addHelpText('after', examples('orrery init', 'orrery init nightly --template commands'))
    .action(async (directory: string, flags: InitFlags) =>
      done(await (await import('./commands/init.ts')).initProject(deps, output, directory, flags)),
    )
}

function addCompletion(program: Command, { deps, output, done }: ProgramOptions): void {
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
    .action(async (shell: string) => done((await import('./commands/completion.ts')).printCompletion(output, shell)))
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action(async (words: string[]) =>
      done(await (await import('./commands/completion.ts')).complete(deps, output, program, words)),
    )
}

function addApprovals(program: Command, { deps, output, done }: ProgramOptions): void {
  const runs = program.commands.find((command) => command.name() === 'runs') ?? program
  const decision = (verb: 'approve' | 'deny', description: string, example: string) =>
    withServer(runs.command(verb).description(description))
      .argument('<run>', 'id of the run')
      .argument('<step>', 'name of the step that waits for the approval')
      .option('--comment <text>', 'why; it is kept with the decision')
      .addHelpText('after', examples(example))
  decision(
    'approve',
    'Approves what a step of a run asks for. Exactly one decision counts.',
    'orrery runs approve RUN ship --comment "looks good"',
  )
    .option('--inputs <json>', 'what the approval asks for along with it, or @FILE')
    .action(async (id: string, step: string, flags: DecisionFlags) =>
      done(await (await import('./commands/approvals.ts')).decide(deps, output, { id, step, approve: true }, flags)),
    )
  decision(
    'deny',
    'Denies what a step of a run asks for: the step fails with approval.denied.',
    'orrery runs deny RUN ship --comment "not on a Friday"',
  ).action(async (id: string, step: string, flags: DecisionFlags) =>
    done(await (await import('./commands/approvals.ts')).decide(deps, output, { id, step, approve: false }, flags)),
  )
  withServer(runs.command('send').description('Sends an event to a run; a step that waits for it goes on.'))
    .argument('<run>', 'id of the run')
    .argument('<event>', 'name of the event')
    .option('--payload <json>', 'what the event carries, or @FILE', 'null')
    .option('--key <key>', 'the same key is the same event, however often it is sent')
    .addHelpText('after', examples(`orrery runs send RUN paid --payload '{"amount": 12}' --key order-17`))
    .action(async (id: string, event: string, flags: SendFlags) =>
      done(await (await import('./commands/approvals.ts')).send(deps, output, { id, event }, flags)),
    )
  withServer(
    runs.command('nudge').description('Looks again at a live run that seems stuck: what moved, and what it waits for.'),
  )
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs nudge RUN'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('./commands/approvals.ts')).nudge(deps, output, id, flags)),
    )
  const approvals = program
    .command('approvals')
    .summary('list what waits for a decision')
    .description('Shows the approvals that people owe or have given.')
    .addHelpText('after', examples('orrery approvals list', 'orrery approvals list --state denied'))
  withServer(approvals.command('list', { isDefault: true }).description('Lists approvals, the newest first.'))
    .addOption(many('--state <state>', 'pending, approved, denied, expired or canceled (repeatable; default pending)'))
    .option('--run <run>', 'of this run alone')
    .option('--namespace <name>', 'of this namespace alone')
    .option('--limit <n>', 'how many at most', '50')
    .addHelpText('after', examples('orrery approvals list', 'orrery approvals list --state approved --run RUN'))
    .action(async (flags: ApprovalListFlags) =>
      done(await (await import('./commands/approvals.ts')).list(deps, output, flags)),
    )
}

function addWorkers(program: Command, { deps, output, done }: ProgramOptions): void {
  const workers = program
    .command('workers')
    .summary('list workers')
    .description('Shows the workers that a server knows.')
    .addHelpText('after', examples('orrery workers list', 'orrery workers list --json'))
  withServer(
    workers.command('list', { isDefault: true }).description('Lists workers: state, slots, heartbeat, modules.'),
  )
    .addHelpText('after', examples('orrery workers list'))
    .action(async (flags: ServerFlags) =>
      done(await (await import('./commands/runs.ts')).listWorkers(deps, output, flags)),
    )
}

function addLogs(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('logs')
    .summary('show what servers and workers logged')
    .description(
      'Shows the log files of servers and workers, those that were put aside included, without asking a server.\n' +
        'What a step wrote itself is shown by: orrery runs logs RUN.',
    )
    .option('--component <name>', 'of this component alone: server, worker or run')
    .option('--run <id>', 'lines about this run; the end of an id will do')
    .option('--trace <id>', 'lines of this trace, and about the runs in it')
    .option('--request <id>', 'lines of this request')
    .option('--since <time>', 'not older than this: 10m, or an instant')
    .option('--level <level>', 'not below this level: debug, info, warn or error')
    .option('-f, --follow', 'go on with what is written from now on')
    .option('--log-dir <dir>', 'directory of the files (ORRERY_LOG_DIR)')
    .addOption(json())
    .addHelpText(
      'after',
      examples(
        'orrery logs --log-dir /var/log/orrery --level warn --since 1h',
        'orrery logs --run RUN',
        'orrery logs --trace 4bf92f3577b34da6a3ce929d0e0e4736 --json',
      ),
    )
    .action(async (flags: ComponentLogFlags) =>
      done(await (await import('./commands/logs.ts')).showComponentLogs(deps, output, flags)),
    )
}

function addSecret(program: Command, { deps, output, done }: ProgramOptions): void {
  const secret = program
    .command('secret')
    .summary('set, list, show, delete and rotate secrets')
    .description(
      'Keeps secrets for steps, encrypted. Asks the server, or with --data-dir (or --store) works on a store in this process.',
    )
    .addHelpText(
      'after',
      examples('orrery secret set github token=@token.txt', 'orrery secret list', 'orrery secret show github'),
    )
  const add = (name: string, description: string): Command =>
    withServer(withSecrets(withStore(secret.command(name).description(description)))).option(
      '-n, --namespace <name>',
      'namespace of the secret',
      'default',
    )
  add('set', 'Sets keys of a secret; the others stay.')
    .argument('<name>', 'name of the secret')
    .argument('[values...]', 'KEY=VALUE, or KEY=@FILE to read the value from a file')
    .option('--from-env-file <file>', 'lines of KEY=VALUE')
    .option('--stdin <key>', 'read the value of this key from standard input')
    .option('--replace', 'remove the keys that are not given')
    .addHelpText(
      'after',
      examples(
        'orrery secret set github token=@token.txt',
        'pass show github | orrery secret set github --stdin token',
        'orrery secret set database --from-env-file db.env --namespace staging',
      ),
    )
    .action(async (name: string, pairs: string[], flags: SetFlags) =>
      done(await (await import('./commands/secret.ts')).setSecret(deps, output, { name, pairs }, flags)),
    )
  add('list', 'Lists stored secrets and their keys.')
    .addHelpText('after', examples('orrery secret list', 'orrery secret list --namespace staging --json'))
    .action(async (flags: SecretFlags) =>
      done(await (await import('./commands/secret.ts')).listSecrets(deps, output, flags)),
    )
  add('show', 'Shows the keys of a secret and where each would be found; never a value.')
    .argument('<name>', 'name of the secret')
    .addOption(many('--key <key>', 'show this key too, stored or not (repeatable)'))
    .addHelpText('after', examples('orrery secret show github', 'orrery secret show github --key token'))
    .action(async (name: string, flags: ShowFlags) =>
      done(await (await import('./commands/secret.ts')).showSecret(deps, output, name, flags)),
    )
  add('delete', 'Deletes a stored secret, or keys of it.')
    .argument('<name>', 'name of the secret')
    .argument('[keys...]', 'keys; all when none is named')
    .addHelpText('after', examples('orrery secret delete github', 'orrery secret delete github token'))
    .action(async (name: string, keys: string[], flags: SecretFlags) =>
      done(await (await import('./commands/secret.ts')).deleteSecret(deps, output, { name, keys }, flags)),
    )
  add('rotate', 'Encrypts all stored secrets by the active key. Safe to interrupt and to repeat.')
    .option('--new-key', 'make a new active key first, where the server keeps its own key file')
    .addHelpText('after', examples('orrery secret rotate', 'orrery secret rotate --new-key'))
    .action(async (flags: RotateFlags) =>
      done(await (await import('./commands/secret.ts')).rotateSecrets(deps, output, flags)),
    )
  secret
    .command('generate-key')
    .description('Prints a new key for --secrets-key-file or ORRERY_SECRETS_KEY.')
    .addOption(json())
    .addHelpText('after', examples('(umask 077; orrery secret generate-key > secrets.key)'))
    .action(async () => done((await import('./commands/secret.ts')).generateKey(output)))
}

function addExplain(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('explain')
    .summary('say why a run or step does not run, or all about a failure code')
    .description(
      'Says why a run or a step is not running, and what to do. Of a failure code: what it means; without an argument, lists all codes.',
    )
    .argument('[what]', 'run/RUN, step/RUN/STEP, a code such as step.timed_out, or a group such as step')
  withServer(command)
    .addHelpText(
      'after',
      examples('orrery explain run/RUN', "orrery explain 'step/RUN/measure[3]'", 'orrery explain step.timed_out'),
    )
    .action(async (what: string | undefined, flags: ServerFlags) => {
      const { explainTarget, parseTarget } = await import('./commands/explain-target.ts')
      const target = what === undefined ? null : parseTarget(what)
      if (target) return done(await explainTarget(deps, output, target, flags))
      done((await import('./commands/explain.ts')).explain(output, what))
    })
}

function addDoctor(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('doctor')
    .summary('check an installation')
    .description(
      'Checks this installation: settings, store, migrations, clocks, disks, ports, workers, secrets, versions. Asks the server when it answers,\n' +
        'and looks by itself when it does not. Exits with 0 when all is well, 1 when something is to be looked at, 2 when something is broken.',
    )
    .option('--config <file>', 'YAML file of settings (ORRERY_CONFIG)')
    .option('--host <host>', 'address that the server listens on (ORRERY_HOST, default 127.0.0.1)')
    .option('--port <port>', 'port that the server listens on (ORRERY_PORT, default 7780)')
  withServer(withStore(command))
    .addHelpText(
      'after',
      examples('orrery doctor', 'orrery doctor --server https://orrery.example', 'orrery doctor --json | jq .rows'),
    )
    .action(async (flags: DoctorFlags) =>
      done(await (await import('./commands/doctor.ts')).runDoctor(deps, output, flags)),
    )
}

function addVersion(program: Command, { deps, output, done }: ProgramOptions): void {
  program
    .command('version')
    .summary('print the version')
    .description('Prints the version; with --json also those of Node.js and the platform.')
    .addOption(json())
    .addHelpText('after', examples('orrery version', 'orrery version --json'))
    .action(() => {
      const { version } = deps
      if (output.json) {
        output.printJson({ version, node: process.versions.node, platform: process.platform, arch: process.arch })
      } else output.print(`orrery ${version}`)
      done(0)
    })
}
