import type { Command } from 'commander'
import type { AskFlags, ListModelFlags, ModelFlags } from '../commands/models.ts'
import { examples, withServer, type ProgramOptions } from './options.ts'

export function addModels(program: Command, { deps, output, done }: ProgramOptions): void {
  const models = program
    .command('models')
    .summary('list, test and ask models')
    .description('Lists the model endpoints that were declared, and tries them. orrery apply declares them.')
    .addHelpText('after', examples('orrery models list', 'orrery models test gpt', 'orrery models ask gpt "Why?"'))
  const namespace = ['-n, --namespace <name>', 'namespace of the endpoint (default "default")'] as const
  withServer(
    models
      .command('list', { isDefault: true })
      .description('Lists model endpoints, and whether the secrets that they name are there.'),
    'name',
  )
    .option(...namespace)
    .option('-A, --all-namespaces', 'of all namespaces that the token may see')
    .addHelpText('after', examples('orrery models list', 'orrery models list -A -o wide'))
    .action(async (flags: ListModelFlags) =>
      done(await (await import('../commands/models.ts')).listModels(deps, output, flags)),
    )
  withServer(
    models
      .command('test')
      .description('Asks an endpoint one short question, without its fallbacks. It costs some tokens.'),
  )
    .argument('<name>', 'name of the endpoint')
    .option(...namespace)
    .addHelpText('after', examples('orrery models test gpt', 'orrery models test gpt -o json'))
    .action(async (name: string, flags: ModelFlags) =>
      done(await (await import('../commands/models.ts')).testModel(deps, output, name, flags)),
    )
  withServer(models.command('ask').description('Asks a model and prints its answer as it comes.'))
    .argument('<name>', 'name of the endpoint')
    .argument('<prompt>', 'what to ask; @FILE reads it from a file, - from standard input')
    .option(...namespace)
    .option('--system <text>', 'instructions before the prompt, or @FILE')
    .option('--max-tokens <n>', 'largest answer')
    .option('--temperature <n>', 'how much is left to chance')
    .option('--no-fallbacks', 'this endpoint alone, whatever happens')
    .addHelpText(
      'after',
      examples(
        'orrery models ask gpt "What is a fence in a distributed system?"',
        'git diff | orrery models ask gpt - --system "Review this change."',
      ),
    )
    .action(async (name: string, prompt: string, flags: AskFlags) =>
      done(await (await import('../commands/models.ts')).askModel(deps, output, { name, prompt }, flags)),
    )
}
