import type { Command } from 'commander'
import type {
  DeleteEntriesFlags,
  IngestFlags,
  ListEntriesFlags,
  MemoryFlags,
  PutEntryFlags,
  SearchFlags,
} from '../commands/memory.ts'
import { examples, many, withServer, type ProgramOptions } from './options.ts'

export function addMemory(program: Command, { deps, output, done }: ProgramOptions): void {
  const memory = program
    .command('memory')
    .summary('list, read, write and search what agents remember')
    .description('Looks into the memories that were declared, and writes to them. orrery apply declares them.')
    .addHelpText(
      'after',
      examples(
        'orrery memory list notes',
        'orrery memory search notes "what customers like"',
        'orrery memory ingest notes docs/*.md',
      ),
    )
  const add = (name: string, description: string, ...more: 'name'[]): Command =>
    withServer(memory.command(name).description(description), ...more)
      .argument('<name>', 'name of the memory')
      .option('-n, --namespace <name>', 'namespace of the memory (default "default")')
      .option('--agent <name>', 'entries of this agent, where a memory keeps them apart')
      .option('--run <id>', 'entries of this run, where a memory keeps them apart')
  add('list', 'Lists entries by scope and key.', 'name')
    .argument('[prefix]', 'only keys that begin so')
    .option('--limit <n>', 'entries at most')
    .addHelpText(
      'after',
      examples(
        'orrery memory list notes',
        'orrery memory list notes docs/ -o name',
        'orrery memory list scratch --run run_01k',
      ),
    )
    .action(async (name: string, prefix: string | undefined, flags: ListEntriesFlags) =>
      done(await (await import('../commands/memory.ts')).listEntries(deps, output, { name, prefix }, flags)),
    )
  add('get', 'Prints the text of an entry.')
    .argument('<key>', 'key of the entry')
    .addHelpText(
      'after',
      examples('orrery memory get notes customer/4711', 'orrery memory get notes customer/4711 -o json'),
    )
    .action(async (name: string, key: string, flags: MemoryFlags) =>
      done(await (await import('../commands/memory.ts')).getEntry(deps, output, { name, key }, flags)),
    )
  add('put', 'Writes an entry; one of the same key is replaced.')
    .argument('<key>', 'key of the entry')
    .argument('<text>', 'what is remembered; @FILE reads it from a file, - from standard input')
    .addOption(many('--meta <name=value>', 'a fact about it (repeatable)'))
    .addHelpText('after', examples('orrery memory put notes customer/4711 "likes trains" --meta of=support'))
    .action(async (name: string, key: string, text: string, flags: PutEntryFlags) =>
      done(await (await import('../commands/memory.ts')).putEntry(deps, output, { name, key, text }, flags)),
    )
  add('search', 'Finds the entries that fit best, by words or by meaning.')
    .argument('<query>', 'what is looked for; @FILE reads it from a file, - from standard input')
    .option('--limit <n>', 'entries at most (default: as the memory says)')
    .option('--by <how>', 'keyword, vector or auto (default: as the memory says)')
    .option('--min-score <n>', 'leave out what scores less, from 0 to 1')
    .addHelpText(
      'after',
      examples(
        'orrery memory search notes "what customers like"',
        'orrery memory search notes trains --by keyword --limit 3',
      ),
    )
    .action(async (name: string, query: string, flags: SearchFlags) =>
      done(await (await import('../commands/memory.ts')).searchEntries(deps, output, { name, query }, flags)),
    )
  add(
    'ingest',
    'Takes texts in, cut into entries SOURCE/chunk-0001 and so on; what was taken in of a source before is replaced.',
  )
    .argument('<files...>', 'files of text; - is standard input')
    .option('--as <source>', 'beginning of the keys, instead of the path of the file')
    .addOption(many('--meta <name=value>', 'a fact about them (repeatable)'))
    .addHelpText(
      'after',
      examples('orrery memory ingest notes docs/*.md', 'git log | orrery memory ingest notes - --as history'),
    )
    .action(async (name: string, files: string[], flags: IngestFlags) =>
      done(await (await import('../commands/memory.ts')).ingestFiles(deps, output, { name, files }, flags)),
    )
  add('delete', 'Deletes entries: those that are named, those of a prefix, or all.')
    .argument('[keys...]', 'keys of the entries')
    .option('--prefix <prefix>', 'all whose key begins so')
    .option('--all', 'every entry')
    .addHelpText(
      'after',
      examples('orrery memory delete notes customer/4711', 'orrery memory delete notes --prefix docs/'),
    )
    .action(async (name: string, keys: string[], flags: DeleteEntriesFlags) =>
      done(await (await import('../commands/memory.ts')).deleteEntries(deps, output, { name, keys }, flags)),
    )
  withServer(
    memory
      .command('check')
      .description('Asks whether a memory can be used: its service and its model of embeddings answer.'),
  )
    .argument('<name>', 'name of the memory')
    .option('-n, --namespace <name>', 'namespace of the memory (default "default")')
    .addHelpText('after', examples('orrery memory check notes'))
    .action(async (name: string, flags: MemoryFlags) =>
      done(await (await import('../commands/memory.ts')).checkMemory(deps, output, name, flags)),
    )
}
