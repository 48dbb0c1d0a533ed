import type { Client } from '../../client/client.ts'
import type { ResourceRef } from '../../client/resource-client.ts'
import type { ResourceView } from '../../contract/resource-types.ts'
import { Failure, type Problem } from '../../domain/failure.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import type { CliDeps, EditedText } from '../deps.ts'
import { diffLines } from '../line-diff.ts'
import type { Output } from '../output.ts'
import { manifestText, namesOf, shortName } from '../resource-text.ts'
import { printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connectTo } from './apply.ts'
import type { ServerFlags } from './runs.ts'

/** Lines of ours at the top of what is edited; they are taken off before it is read. */
const NOTE = '#| '

interface Editing {
  deps: CliDeps
  client: Client
  ref: ResourceRef
}

/** `orrery edit KIND NAME`: opens the resource in an editor and stores what was saved; what is refused opens again with the problem on top. */
export async function editResource(
  deps: CliDeps,
  output: Output,
  given: { kind: string; names: string[] },
  flags: ServerFlags & { namespace?: string },
): Promise<number> {
  const { kind, names } = namesOf(given.kind, given.names)
  const [name] = names
  if (name === undefined || names.length > 1)
    throw usageFailure('edit changes one resource', `Write orrery edit ${kind.toLowerCase()} NAME.`)
  const client = await connectTo(deps, flags)
  const ref = { kind, namespace: flags.namespace ?? DEFAULT_NAMESPACE, name }
  const stored = await edit({ deps, client, ref }, output)
  if (output.isData) output.printData({ resource: stored })
  else output.print(`${shortName(ref)} ${stored ? 'edited' : 'unchanged'}`)
  return 0
}

/** What is stored now; null when nothing was changed. */
async function edit({ deps, client, ref }: Editing, output: Output): Promise<ResourceView | null> {
  let current = await client.resources.get(ref)
  let text = manifestText(current)
  let notes = [`${shortName(ref)}. Save to store it; leave it unchanged, or empty, to leave the resource as it is.`]
  let refusal: Failure | null = null
  for (;;) {
    const opened = [...notes.map((note) => NOTE + note), text].join('\n')
    const edited = await deps.editText(opened, `${ref.name}.yaml`)
    const saved = withoutNotes(edited.text)
    if (saved.trim() === '' || saved === text) return leave(edited, refusal, output)
    try {
      parseResources(saved, { file: ref.name, namespace: ref.namespace })
      const stored = await client.resources.put(ref, saved, { ifMatch: current.metadata.resourceVersion })
      await edited.remove()
      return stored.metadata.resourceVersion === current.metadata.resourceVersion ? null : stored
    } catch (error) {
      if (!(error instanceof Failure) || !canBeMended(error)) {
        output.remark(`What was edited is kept in ${edited.file}`)
        throw error
      }
      refusal = error
      text = saved
      await edited.remove()
      if (error.code === 'resource.precondition_failed') {
        const before = manifestText(current)
        current = await client.resources.get(ref)
        notes = conflictNotes(diffLines(before, manifestText(current)))
      } else notes = problemNotes(error)
    }
  }
}

/** Nothing more was changed: fine at first; after a refusal the refusal stands, and the text is kept. */
async function leave(edited: EditedText, refusal: Failure | null, output: Output): Promise<null> {
  if (refusal === null) {
    await edited.remove()
    return null
  }
  output.remark(`What was edited is kept in ${edited.file}`)
  throw refusal
}

const canBeMended = (failure: Failure): boolean =>
  failure.evidence?.['problems'] !== undefined || failure.code === 'resource.precondition_failed'

const withoutNotes = (text: string): string =>
  text
    .split('\n')
    .filter((line) => !line.startsWith(NOTE.trimEnd()))
    .join('\n')

function problemNotes(failure: Failure): string[] {
  const problems = (failure.evidence?.['problems'] ?? []) as unknown as Problem[] // as failureOfProblems put them
  // Every problem is a line of ours above the text, and so are the first and the last.
  const shift = problems.length + 2
  return [
    `It was not stored: ${printableLine(failure.message)}.`,
    ...problems.map(({ line, column, path, message, nearest }) => {
      const place = line === undefined ? '' : `line ${line + shift}, column ${column ?? 1}: `
      return printableLine(`${place}${path} ${message}${nearest ? ` (did you mean ${nearest}?)` : ''}`)
    }),
    'Mend it and save; leave it as it is to give up.',
  ]
}

function conflictNotes(lines: ReturnType<typeof diffLines>): string[] {
  const changes = lines.filter(({ mark }) => mark !== ' ')
  return [
    'It was not stored: somebody else changed it meanwhile. What they changed:',
    ...changes.map(({ mark, text }) => `${mark} ${printableLine(text)}`),
    'Your text is below. Change it so that both are in it and save; leave it as it is to give up.',
  ]
}
