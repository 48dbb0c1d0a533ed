import type { JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { Client } from '../client/client.ts'
import type { CreateRunRequest } from '../contract/api-types.ts'
import { manifestOf, parseResources, type ResourceDocument } from '../domain/kinds/documents.ts'
import { parseManifest } from '../domain/manifest.ts'
import type { Definition } from '../domain/workflow.ts'
import { readYamlDocuments } from '../domain/yaml.ts'
import { usageFailure } from './usage.ts'

/** The workflow of a file that is to run, with those beside it that it runs below itself. */
export interface RunManifest {
  definition: Definition
  /** Of all workflows of the file: paths beside it. */
  modules: Record<string, string>
  /** What says so to a server; stores the workflows that the run reaches first. */
  request(client: Pick<Client, 'putDefinition'>): Promise<CreateRunRequest>
}

/** Reads a file of one or several workflows; `workflow` names the one to run, else it is the first. */
export function readRunManifest(text: string, from: { file: string; workflow: string | undefined }): RunManifest {
  if (readYamlDocuments(text).documents.length > 1) return manifestOfSeveral(text, from)
  const { definition } = parseManifest(text, from)
  if (from.workflow !== undefined && from.workflow !== definition.name) throw notThere(from, [definition.name])
  return { definition, modules: definition.modules, request: () => Promise.resolve({ manifest: text }) }
}

function manifestOfSeveral(text: string, from: { file: string; workflow: string | undefined }): RunManifest {
  const documents = parseResources(text, { file: from.file, namespace: null })
  const other = documents.find(({ kind }) => kind !== 'Workflow')
  if (other)
    throw usageFailure(
      `${from.file} has a ${other.kind} (line ${other.place.line}) beside workflows, and a run is of workflows alone`,
      `Store it first, from a file of its own: orrery apply -f FILE.`,
    )
  const main = from.workflow === undefined ? documents[0] : documents.find(({ name }) => name === from.workflow)
  if (!main?.definition)
    throw notThere(
      from,
      documents.map(({ name }) => name),
    )
  return {
    definition: main.definition,
    modules: modulesOf(documents, from.file),
    request: async (client) => ({
      workflow: await withHashes(main, { documents, client, hashes: new Map(), path: [] }),
    }),
  }
}

function notThere({ file, workflow = '' }: { file: string; workflow: string | undefined }, names: string[]) {
  const near = nearest(workflow, names)
  return usageFailure(
    `${file} has no workflow ${workflow}`,
    `${near ? `Did you mean ${near}? ` : ''}Workflows there: ${names.join(', ')}.`,
  )
}

/** One worker runs them all, so a name of a module means one file. */
function modulesOf(documents: readonly ResourceDocument[], file: string): Record<string, string> {
  const modules: Record<string, string> = {}
  for (const { definition, name } of documents) {
    for (const [module, path] of Object.entries(definition?.modules ?? {})) {
      if (modules[module] !== undefined && modules[module] !== path)
        throw usageFailure(
          `the workflows of ${file} have two modules ${module}: ${modules[module]} and, in ${name}, ${path}`,
          'Give one of them another name.',
        )
      modules[module] = path
    }
  }
  return modules
}

interface Storing {
  documents: readonly ResourceDocument[]
  client: Pick<Client, 'putDefinition'>
  hashes: Map<string, string>
  /** Names from the workflow that runs down to the one that is looked at. */
  path: readonly string[]
}

/**
 * A workflow whose steps name those beside it by their hash: the run then has exactly what stands in the file, whatever is stored
 * under these names. One that leads back to itself keeps the name, which the server judges.
 */
async function withHashes(document: ResourceDocument, storing: Storing): Promise<JsonObject> {
  const path = [...storing.path, document.name]
  const steps = Array.isArray(document.spec['steps']) ? document.spec['steps'] : []
  const named: JsonObject[] = []
  for (const step of steps as JsonObject[]) {
    // Checked before: every step is an object.
    const { workflow, ...rest } = step
    const below = storing.documents.find(
      ({ name, namespace }) => name === workflow && namespace === document.namespace && !path.includes(name),
    )
    named.push(below ? { ...rest, definition: await hashOf(below, { ...storing, path }) } : step)
  }
  return manifestOf({ ...document, spec: { ...document.spec, steps: named } })
}

async function hashOf(document: ResourceDocument, storing: Storing): Promise<string> {
  const known = storing.hashes.get(document.name)
  if (known !== undefined) return known
  const { hash } = await storing.client.putDefinition({ workflow: await withHashes(document, storing) })
  storing.hashes.set(document.name, hash)
  return hash
}
