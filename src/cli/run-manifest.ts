import type { JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { Client } from '../client/client.ts'
import type { CreateRunRequest } from '../contract/api-types.ts'
import { manifestOf, parseResources, type ResourceDocument } from '../domain/kinds/documents.ts'
import { parseManifest } from '../domain/manifest.ts'
import type { Definition } from '../domain/workflow.ts'
import { readYamlDocuments } from '../domain/yaml.ts'
import { remarksOn } from './resource-files.ts'
import { usageFailure } from './usage.ts'

/** The workflow of a file that is to run, with those beside it that it runs below itself. */
export interface RunManifest {
  definition: Definition
  /** Of all workflows of the file: paths beside it. */
  modules: Record<string, string>
  /** Agents, tools, model endpoints and whatever else stands in the files beside workflows. */
  beside: ResourceDocument[]
  /** What they name and is in none of them. */
  remarks: string[]
  /** What says so to a server; stores the workflows that the run reaches first. */
  request(client: Pick<Client, 'putDefinition'>): Promise<CreateRunRequest>
}

/**
 * Reads a file of one or several workflows, perhaps with agents and other resources beside them; `workflow` names the one to run, else it is the
 * first. `more`: what other files have.
 */
export function readRunManifest(
  text: string,
  from: { file: string; workflow: string | undefined; more?: readonly ResourceDocument[] },
): RunManifest {
  const { more = [] } = from
  if (readYamlDocuments(text).documents.length > 1 || more.length > 0) return manifestOfSeveral(text, { ...from, more })
  const { definition } = parseManifest(text, from)
  const { name, namespace, modules } = definition
  if (from.workflow !== undefined && from.workflow !== name) throw notThere(from, [name])
  const remarks = remarksOn([{ kind: 'Workflow', name, namespace, spec: {}, definition }])
  return { definition, modules, beside: [], remarks, request: () => Promise.resolve({ manifest: text }) }
}

function manifestOfSeveral(
  text: string,
  from: { file: string; workflow: string | undefined; more: readonly ResourceDocument[] },
): RunManifest {
  const documents = [...parseResources(text, { file: from.file, namespace: null }), ...from.more]
  const workflows = documents.filter(({ kind }) => kind === 'Workflow')
  const main = from.workflow === undefined ? workflows[0] : workflows.find(({ name }) => name === from.workflow)
  if (!main?.definition)
    throw notThere(
      from,
      workflows.map(({ name }) => name),
    )
  return {
    definition: main.definition,
    modules: modulesOf(workflows, from.file),
    beside: documents.filter(({ kind }) => kind !== 'Workflow'),
    remarks: remarksOn(documents),
    request: async (client) => ({
      workflow: await withHashes(main, { documents: workflows, client, hashes: new Map(), path: [] }),
    }),
  }
}

function notThere({ file, workflow = '' }: { file: string; workflow: string | undefined }, names: string[]) {
  const near = nearest(workflow, names)
  if (names.length === 0)
    return usageFailure(
      `${file} has no workflow`,
      'Name a file with a workflow; orrery apply -f FILE stores what else there is.',
    )
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
