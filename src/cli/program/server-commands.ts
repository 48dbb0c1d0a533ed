import type { Command } from 'commander'
import type { DoctorFlags } from '../commands/doctor.ts'
import type { ComponentLogFlags } from '../commands/logs.ts'
import type { ServerFlags } from '../commands/runs.ts'
import type { TopFlags } from '../commands/status.ts'
import type { ConfigFlags } from '../commands/up.ts'
import type { WorkerFlags } from '../commands/worker.ts'
import {
  examples,
  formats,
  json,
  many,
  withLog,
  withSecrets,
  withServer,
  withStore,
  type ProgramOptions,
} from './options.ts'

export function addUp(program: Command, { deps, output, done }: ProgramOptions): void {
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
      .option('--tool-files <dir>', 'programs and modules of tools, for the worker (ORRERY_TOOL_FILES)')
      .option(
        '--tool-commands <names>',
        'programs that tools may run without isolation, with commas between them; * is all (ORRERY_TOOL_COMMANDS)',
      )
      .option('--capacity <n>', 'steps at once of the worker (ORRERY_CAPACITY, default 16)')
      .addOption(many('--label <name=value>', 'label of the worker (repeatable; ORRERY_LABELS)'))
      .option('--no-worker', 'a server alone (ORRERY_WORKER=false)')
      .option('--no-metrics', 'no /metrics (ORRERY_METRICS=false)'),
  )
    .addOption(formats())
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
    .action(async (flags: ConfigFlags & { json?: boolean; output?: string }) => {
      const { runUp } = await import('../commands/up.ts')
      const { json: _, output: __, ...rest } = flags
      done(await runUp(deps, output, rest))
    })
}

export function addWorker(program: Command, { deps, output, done }: ProgramOptions): void {
  const command = program
    .command('worker')
    .summary('take work from a server')
    .description(
      'Takes work from a server. Interrupt once to let what runs finish, for 30 seconds at most, twice to leave at once.',
    )
    .option('--name <name>', 'name of the worker (ORRERY_WORKER_NAME, default the host name)')
    .addOption(many('--module <name=path>', 'module of functions (repeatable; ORRERY_MODULES)'))
    .option('--tool-files <dir>', 'programs and modules of tools (ORRERY_TOOL_FILES)')
    .option(
      '--tool-commands <names>',
      'programs that tools may run without isolation, with commas between them; * is all (ORRERY_TOOL_COMMANDS)',
    )
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
    .action(async (flags: WorkerFlags & { json?: boolean; output?: string }) => {
      const { runWorker } = await import('../commands/worker.ts')
      const { json: _, output: __, ...rest } = flags
      done(await runWorker(deps, output, rest))
    })
}

export function addWorkers(program: Command, { deps, output, done }: ProgramOptions): void {
  const workers = program
    .command('workers')
    .summary('list workers')
    .description('Shows the workers that a server knows.')
    .addHelpText('after', examples('orrery workers list', 'orrery workers list --json'))
  withServer(
    workers.command('list', { isDefault: true }).description('Lists workers: state, slots, heartbeat, modules.'),
    'name',
  )
    .addHelpText('after', examples('orrery workers list'))
    .action(async (flags: ServerFlags) =>
      done(await (await import('../commands/runs.ts')).listWorkers(deps, output, flags)),
    )
}

export function addStatus(program: Command, { deps, output, done }: ProgramOptions): void {
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
      done(await (await import('../commands/status.ts')).showStatus(deps, output, flags)),
    )
  withServer(
    program
      .command('top')
      .summary('watch what a server is doing')
      .description('Draws the status and the live runs of a server again and again, until interrupted.')
      .option('--interval <seconds>', 'seconds between two looks', '2'),
  )
    .addHelpText('after', examples('orrery top', 'orrery top --interval 10'))
    .action(async (flags: TopFlags) => done(await (await import('../commands/status.ts')).showTop(deps, output, flags)))
}

export function addLogs(program: Command, { deps, output, done }: ProgramOptions): void {
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
    .addOption(formats())
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
      done(await (await import('../commands/logs.ts')).showComponentLogs(deps, output, flags)),
    )
}

export function addDoctor(program: Command, { deps, output, done }: ProgramOptions): void {
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
      done(await (await import('../commands/doctor.ts')).runDoctor(deps, output, flags)),
    )
}
