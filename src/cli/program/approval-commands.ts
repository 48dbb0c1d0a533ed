import type { Command } from 'commander'
import type { ApprovalListFlags, CallDecisionFlags, DecisionFlags, SendFlags } from '../commands/approvals.ts'
import type { ServerFlags } from '../commands/runs.ts'
import { examples, many, withServer, type ProgramOptions } from './options.ts'

export function addApprovals(program: Command, { deps, output, done }: ProgramOptions): void {
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
      done(await (await import('../commands/approvals.ts')).decide(deps, output, { id, step, approve: true }, flags)),
    )
  decision(
    'deny',
    'Denies what a step of a run asks for: the step fails with approval.denied.',
    'orrery runs deny RUN ship --comment "not on a Friday"',
  ).action(async (id: string, step: string, flags: DecisionFlags) =>
    done(await (await import('../commands/approvals.ts')).decide(deps, output, { id, step, approve: false }, flags)),
  )
  withServer(runs.command('send').description('Sends an event to a run; a step that waits for it goes on.'))
    .argument('<run>', 'id of the run')
    .argument('<event>', 'name of the event')
    .option('--payload <json>', 'what the event carries, or @FILE', 'null')
    .option('--key <key>', 'the same key is the same event, however often it is sent')
    .addHelpText('after', examples(`orrery runs send RUN paid --payload '{"amount": 12}' --key order-17`))
    .action(async (id: string, event: string, flags: SendFlags) =>
      done(await (await import('../commands/approvals.ts')).send(deps, output, { id, event }, flags)),
    )
  withServer(
    runs.command('nudge').description('Looks again at a live run that seems stuck: what moved, and what it waits for.'),
  )
    .argument('<run>', 'id of the run')
    .addHelpText('after', examples('orrery runs nudge RUN'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('../commands/approvals.ts')).nudge(deps, output, id, flags)),
    )
  const approvals = program
    .command('approvals')
    .summary('list, show and decide what waits for a decision')
    .description('Shows the approvals that people owe or have given, and decides them.')
    .addHelpText('after', examples('orrery approvals list', 'orrery approvals list --state denied'))
  withServer(approvals.command('list', { isDefault: true }).description('Lists approvals, the newest first.'))
    .addOption(many('--state <state>', 'pending, approved, denied, expired or canceled (repeatable; default pending)'))
    .option('--run <run>', 'of this run alone')
    .option('--namespace <name>', 'of this namespace alone')
    .option('--limit <n>', 'how many at most', '50')
    .addHelpText('after', examples('orrery approvals list', 'orrery approvals list --state approved --run RUN'))
    .action(async (flags: ApprovalListFlags) =>
      done(await (await import('../commands/approvals.ts')).list(deps, output, flags)),
    )
  withServer(approvals.command('show').description('Shows one approval: of a call of an agent the arguments, exactly.'))
    .argument('<approval>', 'id of the approval')
    .addHelpText('after', examples('orrery approvals show APPROVAL'))
    .action(async (id: string, flags: ServerFlags) =>
      done(await (await import('../commands/approvals.ts')).show(deps, output, id, flags)),
    )
  withServer(
    approvals
      .command('approve')
      .description('Approves one approval by its id: of a call of an agent too. Exactly one decision counts.'),
  )
    .argument('<approval>', 'id of the approval')
    .option('--comment <text>', 'why; it is kept with the decision')
    .option('--inputs <json>', 'what the approval asks for along with it, or @FILE')
    .option('--input-json <json>', 'other arguments for the call than those that were asked, or @FILE')
    .option('--output-json <json>', 'what a call gave whose outcome is not known, or @FILE; left out, it is made again')
    .addHelpText(
      'after',
      examples(
        'orrery approvals approve APPROVAL',
        `orrery approvals approve APPROVAL --input-json '{"to": "ops@example.com"}' --comment "not to everybody"`,
      ),
    )
    .action(async (id: string, flags: CallDecisionFlags) =>
      done(await (await import('../commands/approvals.ts')).decideById(deps, output, { id, approve: true }, flags)),
    )
  withServer(
    approvals
      .command('deny')
      .description('Denies one approval by its id. The agent whose call it is is told so, and goes on.'),
  )
    .argument('<approval>', 'id of the approval')
    .option('--comment <text>', 'why; it is kept with the decision, and told to the agent')
    .addHelpText('after', examples('orrery approvals deny APPROVAL --comment "not on a Friday"'))
    .action(async (id: string, flags: CallDecisionFlags) =>
      done(await (await import('../commands/approvals.ts')).decideById(deps, output, { id, approve: false }, flags)),
    )
}
