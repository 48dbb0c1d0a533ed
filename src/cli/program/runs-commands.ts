import type { Command } from 'commander'
import type { GetArtifactFlags } from '../commands/artifacts.ts'
import type { ListFlags, LogFlags, RetryFlags, ServerFlags, SkipFlags } from '../commands/runs.ts'
import type { TranscriptFlags } from '../commands/transcript.ts'
import type { EventFlags, TimedFlags, WaitFlags } from '../commands/watch.ts'
import { examples, json, many, withConnection, withServer, type ProgramOptions } from './options.ts'

export function addRuns(program: Command, { deps, output, done }: ProgramOptions): void {
  const runs = program
    .command('runs')
    .summary('list, show, cancel and mend runs')
    .description('Lists, shows, cancels and mends runs. A run may be named by an end of its id that fits no other.')
    .addHelpText('after', examples('orrery runs list --state failed', 'orrery runs show RUN', 'orrery runs retry RUN'))
  withServer(runs.command('list').description('Lists runs, the newest first.'), 'name')
    .addOption(many('--state <state>', 'runs in this state alone (repeatable)'))
    .option('--workflow <name>', 'runs of this workflow alone')
    .option('--namespace <name>', 'runs of this namespace alone')
    .option('-l, --selector <selector>', 'runs with such labels, such as team=core,tier!=web')
    .option('--since <time>', 'runs that were created from then on: 2h, or an instant')
    .option('--limit <n>', 'how many at most', '50')
    .option('--cursor <cursor>', 'go on behind a page that was cut; its last line says where')
    .addHelpText(
      'after',
      examples(
        'orrery runs list',
        'orrery runs list --state failed --workflow nightly',
        'orrery runs list -l team=core --since 2h -o wide',
      ),
    )
    .action(async (flags: ListFlags) => done(await (await import('../commands/runs.ts')).listRuns(deps, output, flags)))
  withServer(runs.command('show').description('Shows a run: its steps, what they wait for, what failed and why.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs show RUN', 'orrery runs show RUN --json | jq .stepList'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('../commands/runs.ts')).showRun(deps, output, id, flags)),
    )
  withServer(runs.command('watch').description('Draws a run until it has ended. Leaving it changes nothing.'))
    .argument('<run>', 'id of the run')
    .option('--timeout <duration>', 'leave when it has not ended by then, such as 5m; exit code 124')
    .addHelpText('after', examples('orrery runs watch RUN', 'orrery runs watch RUN --json'))
    .action(async (id: string, flags: TimedFlags) =>
      done(await (await import('../commands/watch.ts')).watchRun(deps, output, id, flags)),
    )
  withServer(
    runs
      .command('wait')
      .description('Waits until runs have ended, or are in a state; the exit code is the first bad outcome.'),
  )
    .argument('<runs...>', 'ids of runs')
    .option('--for <state>', 'ended, or one state: running, waiting, succeeded, failed or canceled', 'ended')
    .option('--timeout <duration>', 'leave when it is not so by then, such as 5m; exit code 124')
    .addHelpText(
      'after',
      examples(
        'orrery runs wait RUN',
        'orrery runs wait RUN OTHER --timeout 10m && echo good',
        'orrery runs wait RUN --for waiting',
      ),
    )
    .action(async (ids: string[], flags: WaitFlags) =>
      done(await (await import('../commands/watch.ts')).waitForRuns(deps, output, ids, flags)),
    )
  withServer(runs.command('logs').description('Prints what the steps of a run wrote.'))
    .argument('<run>', 'id of the run')
    .option('-f, --follow', 'go on until the run has ended')
    .option('--step <name>', 'of this step alone, such as build or measure[3]')
    .addHelpText('after', examples('orrery runs logs RUN -f', "orrery runs logs RUN --step 'measure[3]'"))
    .action(async (id: string, flags: LogFlags) =>
      done(await (await import('../commands/runs.ts')).showLogs(deps, output, id, flags)),
    )
  withServer(
    runs
      .command('transcript')
      .description('Prints what agents asked, were told and did: calls of models and tools, verdicts, decisions.'),
  )
    .argument('<run>', 'id of the run')
    .argument('[step]', 'name of the step, such as write or review[2]; left out, every step of an agent')
    .option('--full', 'whole texts and values')
    .addHelpText('after', examples('orrery runs transcript RUN', 'orrery runs transcript RUN write --full'))
    .action(async (id: string, step: string | undefined, flags: TranscriptFlags) =>
      done(await (await import('../commands/transcript.ts')).showTranscript(deps, output, { id, step }, flags)),
    )
  withServer(runs.command('cancel').description('Stops a run; what succeeded stays.'))
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs cancel RUN'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('../commands/runs.ts')).cancelRun(deps, output, id, flags)),
    )
  withServer(runs.command('retry').description('Runs the failed part of a run again; what succeeded stays.'))
    .argument('<run>', 'id of the run')
    .option('--step <name>', 'this failed step alone, such as build or measure[3], and what it holds up')
    .addHelpText('after', examples('orrery runs retry RUN', "orrery runs retry RUN --step 'measure[3]'"))
    .action(async (id: string, flags: RetryFlags) =>
      done(await (await import('../commands/runs.ts')).retryRun(deps, output, id, flags)),
    )
  withConnection(
    runs.command('skip').description('Skips a step that waits, failed or is blocked; what needs it goes on.'),
  )
    .addOption(json())
    .argument('<run>', 'id of the run')
    .argument('<step>', 'name of the step')
    .option('--output <json>', 'output to use instead, or @FILE', 'null')
    .addHelpText('after', examples(`orrery runs skip RUN approve --output '{"approved": true}'`))
    .action(async (id: string, step: string, flags: SkipFlags) =>
      done(await (await import('../commands/runs.ts')).skipStep(deps, output, { id, step }, flags)),
    )
}

export function addEvents(program: Command, { deps, output, done }: ProgramOptions): void {
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
      done(await (await import('../commands/watch.ts')).showEvents(deps, output, id, flags)),
    )
}

export function addArtifacts(program: Command, { deps, output, done }: ProgramOptions): void {
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
      done(await (await import('../commands/artifacts.ts')).listArtifacts(deps, output, id, flags)),
    )
  withConnection(
    artifacts.command('get').description('Fetches one file; its checksum is checked before it gets its name.'),
  )
    .addOption(json())
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
      done(await (await import('../commands/artifacts.ts')).getArtifact(deps, output, { run, step, name }, flags)),
    )
}
