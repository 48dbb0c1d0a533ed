import type { Command } from 'commander'
import type { RotateFlags, SecretFlags, SetFlags, ShowFlags } from '../commands/secret.ts'
import { examples, formats, json, many, withSecrets, withServer, withStore, type ProgramOptions } from './options.ts'

export function addSecret(program: Command, { deps, output, done }: ProgramOptions): void {
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
  const add = (name: string, description: string, ...more: 'name'[]): Command =>
    withServer(withSecrets(withStore(secret.command(name).description(description))), ...more).option(
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
      done(await (await import('../commands/secret.ts')).setSecret(deps, output, { name, pairs }, flags)),
    )
  add('list', 'Lists stored secrets and their keys.', 'name')
    .addHelpText('after', examples('orrery secret list', 'orrery secret list --namespace staging --json'))
    .action(async (flags: SecretFlags) =>
      done(await (await import('../commands/secret.ts')).listSecrets(deps, output, flags)),
    )
  add('show', 'Shows the keys of a secret and where each would be found; never a value.')
    .argument('<name>', 'name of the secret')
    .addOption(many('--key <key>', 'show this key too, stored or not (repeatable)'))
    .addHelpText('after', examples('orrery secret show github', 'orrery secret show github --key token'))
    .action(async (name: string, flags: ShowFlags) =>
      done(await (await import('../commands/secret.ts')).showSecret(deps, output, name, flags)),
    )
  add('delete', 'Deletes a stored secret, or keys of it.')
    .argument('<name>', 'name of the secret')
    .argument('[keys...]', 'keys; all when none is named')
    .addHelpText('after', examples('orrery secret delete github', 'orrery secret delete github token'))
    .action(async (name: string, keys: string[], flags: SecretFlags) =>
      done(await (await import('../commands/secret.ts')).deleteSecret(deps, output, { name, keys }, flags)),
    )
  add('rotate', 'Encrypts all stored secrets by the active key. Safe to interrupt and to repeat.')
    .option('--new-key', 'make a new active key first, where the server keeps its own key file')
    .addHelpText('after', examples('orrery secret rotate', 'orrery secret rotate --new-key'))
    .action(async (flags: RotateFlags) =>
      done(await (await import('../commands/secret.ts')).rotateSecrets(deps, output, flags)),
    )
  secret
    .command('generate-key')
    .description('Prints a new key for --secrets-key-file or ORRERY_SECRETS_KEY.')
    .addOption(formats())
    .addOption(json())
    .addHelpText('after', examples('(umask 077; orrery secret generate-key > secrets.key)'))
    .action(async () => done((await import('../commands/secret.ts')).generateKey(output)))
}
