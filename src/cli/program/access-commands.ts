import type { Command } from 'commander'
import { ADDRESS_ORDER, TOKEN_ORDER } from '../../client/unreachable.ts'
import type { AuditFlags } from '../commands/audit.ts'
import type { LoginFlags } from '../commands/auth.ts'
import type { CanIFlags } from '../commands/can-i.ts'
import type { SetContextFlags } from '../commands/contexts.ts'
import type { ServerFlags } from '../commands/runs.ts'
import type { CreateTokenFlags, ListTokensFlags } from '../commands/tokens.ts'
import { examples, formats, json, many, withServer, type ProgramOptions } from './options.ts'

const HOW_FOUND = `\n${ADDRESS_ORDER}\n${TOKEN_ORDER}`

/** Who may ask what of which server: tokens, logging in, contexts, the audit log. */
export function addAccess(program: Command, options: ProgramOptions): void {
  addTokens(program, options)
  addAuth(program, options)
  addContexts(program, options)
  addAudit(program, options)
}

function addTokens(program: Command, { deps, output, done }: ProgramOptions): void {
  const tokens = program
    .command('token')
    .summary('make, list and revoke tokens')
    .description(
      'Makes, lists and revokes tokens. Only administrators may, and no token reaches further than its maker.',
    )
    .addHelpText('after', examples('orrery token create --name ci --role operator --expires 90d', 'orrery token list'))
  withServer(tokens.command('create').description('Makes a token and prints it, this once.'))
    .requiredOption('--name <name>', 'what it is for')
    .requiredOption(
      '--role <role>',
      'viewer reads; operator also starts and cancels; admin also changes; worker takes work',
    )
    .option('--organisation <name>', 'organisation that it sees (default: as the token that makes it)')
    .addOption(many('--namespace <name>', 'namespace that it sees (repeatable; default: as the token that makes it)'))
    .option('--expires <duration>', 'how long it lasts, such as 90d (default: until it is revoked)')
    .addHelpText(
      'after',
      examples(
        'orrery token create --name ci --role operator --expires 90d',
        'orrery token create --name gpu-box --role worker > worker.token',
      ),
    )
    .action(async (flags: CreateTokenFlags) =>
      done(await (await import('../commands/tokens.ts')).createToken(deps, output, flags)),
    )
  withServer(tokens.command('list').description('Lists the tokens that you may see, the newest first.'), 'name')
    .option('--all', 'those too that have expired or were revoked')
    .addHelpText('after', examples('orrery token list', 'orrery token list --all'))
    .action(async (flags: ListTokensFlags) =>
      done(await (await import('../commands/tokens.ts')).listTokens(deps, output, flags)),
    )
  withServer(tokens.command('revoke').description('Ends a token: no server takes it after a second.'))
    .argument('<token>', 'its id, or its name when no other has it')
    .addHelpText('after', examples('orrery token revoke ci'))
    .action(async (name: string, flags: ServerFlags) =>
      done(await (await import('../commands/tokens.ts')).revokeToken(deps, output, name, flags)),
    )
}

function addAuth(program: Command, { deps, output, done }: ProgramOptions): void {
  const auth = program
    .command('auth')
    .summary('log in, log out, say who you are')
    .description('Keeps the token for a server, forgets it, or says whose it is.')
    .addHelpText('after', HOW_FOUND)
    .addHelpText('after', examples('orrery auth login --server https://orrery.example', 'orrery auth whoami'))
  withServer(auth.command('login').description('Tries a token and keeps it, with its server, as the context in use.'))
    .option('--name <name>', 'name of the context (default: host and port)')
    .addHelpText(
      'after',
      examples(
        'orrery auth login --server https://orrery.example < token-file',
        'orrery auth login --name prod --token T',
      ),
    )
    .action(async (flags: LoginFlags) => done(await (await import('../commands/auth.ts')).login(deps, output, flags)))
  auth
    .command('logout')
    .description('Forgets the token of a context. The token itself stays good until it is revoked.')
    .option('--context <name>', 'context to log out of (default: the one in use)')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery auth logout'))
    .action(async (flags: { context?: string }) =>
      done(await (await import('../commands/auth.ts')).logout(deps, output, flags)),
    )
  withServer(auth.command('whoami').description('Says whose the token is, its role, and what it sees.'))
    .addHelpText('after', examples('orrery auth whoami', 'orrery auth whoami --context prod'))
    .action(async (flags: ServerFlags) => done(await (await import('../commands/auth.ts')).whoami(deps, output, flags)))
  withServer(program.command('can-i').summary('say whether you, or an agent, may do something'))
    .description(
      'Says whether the token may do VERB with RESOURCE (exit code 0: yes, 1: no), or whether the agent VERB may call the tool RESOURCE for an OPERATION, with the rule that decided and every rule that was looked at (0: yes, 1: no, 3: a person decides).',
    )
    .argument('<verb>', 'such as get, list, create, cancel, revoke; or the name of an agent')
    .argument('<resource>', 'such as runs, steps, workers, tokens; or the name of a tool as the agent calls it')
    .argument('[operation]', 'of a tool: read, write, delete or admin')
    .option('-n, --namespace <name>', 'in this namespace')
    .option('--workflow <name>', 'of an agent: in a run of this workflow')
    .option('--input-json <json>', 'of an agent: what the tool would be called with')
    .option('--model <name>', 'of an agent: may it ask this model endpoint, besides?')
    .addHelpText(
      'after',
      examples(
        'orrery can-i cancel runs',
        'orrery can-i create tokens --namespace team',
        'orrery can-i writer slack write',
        'orrery can-i writer github.create_issue write --workflow report --model gpt',
      ),
    )
    .action(async (verb: string, resource: string, operation: string | undefined, flags: CanIFlags) => {
      const { canAgent, canI } = await import('../commands/can-i.ts')
      done(
        operation === undefined
          ? await canI(deps, output, { verb, resource }, flags)
          : await canAgent(deps, output, { agent: verb, tool: resource, operation }, flags),
      )
    })
}

function addContexts(program: Command, { deps, output, done }: ProgramOptions): void {
  const contexts = program
    .command('context')
    .summary('name servers and choose one')
    .description('Names servers, with the token for each, and chooses the one in use.')
    .addHelpText('after', HOW_FOUND)
    .addHelpText(
      'after',
      examples('orrery context set prod --server https://orrery.example', 'orrery context use prod'),
    )
  const load = () => import('../commands/contexts.ts')
  contexts
    .command('list')
    .description('Lists the contexts; * marks the one in use.')
    .addOption(formats('name'))
    .addOption(json())
    .addHelpText('after', examples('orrery context list'))
    .action(async () => done(await (await load()).listContexts(deps, output)))
  contexts
    .command('use')
    .description('Takes a context into use.')
    .argument('<name>', 'name of the context')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery context use prod'))
    .action(async (name: string) => done(await (await load()).useContext(deps, output, name)))
  contexts
    .command('show')
    .description('Shows a context; of its token only whether there is one.')
    .argument('[name]', 'name of the context (default: the one in use)')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery context show', 'orrery context show prod'))
    .action(async (name: string | undefined) => done(await (await load()).showContext(deps, output, name)))
  contexts
    .command('set')
    .description('Makes a context, or changes what is given of it.')
    .argument('<name>', 'name of the context')
    .option('--server <url>', 'address of the server')
    .option('--token <token>', 'token to show it')
    .option('--ca <file>', 'authority to trust beside the known ones, PEM')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery context set prod --server https://orrery.example --ca company-ca.pem'))
    .action(async (name: string, flags: SetContextFlags) =>
      done(await (await load()).setContext(deps, output, name, flags)),
    )
  contexts
    .command('delete')
    .description('Forgets a context with its token. The token itself stays good.')
    .argument('<name>', 'name of the context')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('orrery context delete prod'))
    .action(async (name: string) => done(await (await load()).deleteContext(deps, output, name)))
}

function addAudit(program: Command, { deps, output, done }: ProgramOptions): void {
  withServer(program.command('audit').summary('say who changed what'))
    .description('Shows changes, refusals and uses of secrets, the newest first.')
    .option('--actor <id>', 'of this token alone')
    .option('--action <name>', 'of this kind alone, such as runs.cancel')
    .option('--object <id>', 'about this run, token or definition alone')
    .option('--denied', 'refusals alone')
    .option('--namespace <name>', 'in this namespace alone')
    .option('--since <time>', 'from this time on: 2h, or an instant such as 2026-01-31T12:00:00Z')
    .option('--limit <n>', 'how many at most', '50')
    .addHelpText('after', examples('orrery audit', 'orrery audit --action tokens.create', 'orrery audit --denied'))
    .action(async (flags: AuditFlags) =>
      done(await (await import('../commands/audit.ts')).listAudit(deps, output, flags)),
    )
}
