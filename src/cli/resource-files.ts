import path from 'node:path'
import { namedElsewhere, remarkOn } from '../domain/agents/dangling.ts'
import { Failure, failureOfProblems } from '../domain/failure.ts'
import { manifestOf, readResources, type ResourceDocument } from '../domain/kinds/documents.ts'
import { API_VERSION } from '../domain/kinds/envelope.ts'
import type { CliDeps } from './deps.ts'
import { readText } from './inputs.ts'
import type { Output } from './output.ts'

const MANIFEST = /\.(?:ya?ml|json)$/

export interface ManifestFiles {
  /** Files, directories, and - for standard input. */
  paths: readonly string[]
  /** Directories below directories too. */
  recursive: boolean
  /** Where documents go that name no namespace. */
  namespace: string | null
}

/** The resources of files and directories, all checked. Throws one failure with the problems of all of them. */
export async function readManifests(deps: CliDeps, output: Output, given: ManifestFiles): Promise<ResourceDocument[]> {
  const texts: { text: string; file: string }[] = []
  for (const named of given.paths) {
    if (named === '-') texts.push({ file: 'stdin', text: await deps.stdin.readText() })
    else
      for (const file of await filesAt(deps, named, given.recursive))
        texts.push({ file, text: await readText(deps, file, 'the manifest') })
  }
  for (const { file, text } of texts) output.sources[file] = text
  const { documents, problems } = readResources(texts, given.namespace)
  const what = texts.length === 1 ? (texts[0]?.file ?? '') : `${texts.length} files`
  if (problems.length > 0) throw failureOfProblems(problems, `reading ${what}`)
  return documents
}

/** A file itself, or the manifests of a directory by name. */
async function filesAt(deps: CliDeps, named: string, recursive: boolean): Promise<string[]> {
  const entries = await deps.listDirectory(path.resolve(deps.cwd, named))
  if (entries === null) return [named]
  const files: string[] = []
  for (const { name, isDirectory } of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const full = path.join(named, name)
    if (!isDirectory && MANIFEST.test(name)) files.push(full)
    else if (isDirectory && recursive && !name.startsWith('.')) files.push(...(await manifestsIn(deps, full)))
  }
  if (files.length > 0) return files
  throw new Failure('file.unreadable', `reading the manifests in ${named}: there are no .yaml, .yml or .json files`, {
    evidence: { path: path.resolve(deps.cwd, named) },
    ...(recursive ? {} : { remediation: 'Name the files, or add --recursive to look into the directories below.' }),
  })
}

/** Those of a directory below, which may have none. */
const manifestsIn = (deps: CliDeps, directory: string): Promise<string[]> =>
  filesAt(deps, directory, true).catch((error: unknown) => {
    if (error instanceof Failure && error.cause === undefined) return []
    throw error
  })

/** What these documents name and is in none of them. */
export function remarksOn(documents: readonly Parameters<typeof namedElsewhere>[0][number][]): string[] {
  const names = (kind: string) => documents.flatMap((document) => (document.kind === kind ? [document.name] : []))
  return namedElsewhere(documents).map((one) => remarkOn(one, 'in these files', names(one.kind)))
}

/** Checked documents as one text for the server. */
export const textOfDocuments = (documents: readonly ResourceDocument[]): string =>
  JSON.stringify({ apiVersion: API_VERSION, kind: 'List', items: documents.map(manifestOf) })
