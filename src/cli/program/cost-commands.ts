import type { Command } from 'commander'
import type { CostFlags } from '../commands/costs.ts'
import { examples, withServer, type ProgramOptions } from './options.ts'

export function addCosts(program: Command, { deps, output, done }: ProgramOptions): void {
  withServer(program.command('costs').summary('say what calls of models cost'), 'name')
    .description('Sums what calls of models took, in tokens and money; those with the most tokens first.')
    .option('--by <what>', 'agent, workflow, namespace, model, endpoint or run', 'agent')
    .option('--since <time>', 'from this time on: 24h, or an instant such as 2026-01-31T12:00:00Z')
    .option('--until <time>', 'before this time')
    .option('-n, --namespace <name>', 'in this namespace alone')
    .option('--limit <n>', 'how many at most', '50')
    .addHelpText(
      'after',
      examples('orrery costs', 'orrery costs --by workflow --since 24h', 'orrery costs --by run -o json'),
    )
    .action(async (flags: CostFlags) =>
      done(await (await import('../commands/costs.ts')).listCosts(deps, output, flags)),
    )
}
