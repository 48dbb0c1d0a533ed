import type { ApplyResponse } from '../../contract/resource-types.ts'
import { manifestOf, type ResourceDocument } from '../../domain/kinds/documents.ts'
import { HIDDEN } from '../../domain/kinds/secret.ts'
import { kindOf } from '../../domain/kinds/registry.ts'
import { Failure } from '../../domain/failure.ts'
import type { CliDeps } from '../deps.ts'
import { diffLines, shorten } from '../line-diff.ts'
import type { Output } from '../output.ts'
import { readManifests, remarksOn, textOfDocuments } from '../resource-files.ts'
import { manifestText, shortName } from '../resource-text.ts'
import { type Line, printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { yamlOf } from '../yaml-text.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface FileFlags extends ServerFlags {
  filename?: string[]
  recursive?: boolean
  namespace?: string
  dryRun?: boolean
}

const CONTEXT_LINES = 3

/** `orrery apply -f FILE…`: everything is checked here, then stored on the server in one go. */
export async function applyFiles(deps: CliDeps, output: Output, flags: FileFlags): Promise<number> {
  const documents = await readFiles(deps, output, flags, 'apply')
  const client = await connectTo(deps, flags)
  const answer = await client.resources.apply(textOfDocuments(documents), { dryRun: flags.dryRun ?? false })
  if (output.isData) output.printData(answer)
  else output.print(...answer.resources.map((row) => outcomeLine(row, answer.dryRun)))
  output.remark(...(answer.warnings ?? []).map((warning) => `warning: ${warning}`))
  return 0
}

const STYLES = { created: 'good', configured: 'accent', unchanged: 'dim' } as const

const outcomeLine = (row: ApplyResponse['resources'][number], dryRun: boolean): Line => [
  span(`${shortName(row)} `),
  span(row.outcome, STYLES[row.outcome]),
  ...(row.kind === 'Workflow' && row.outcome !== 'unchanged' ? [span(` (version ${row.generation})`, 'dim')] : []),
  ...(dryRun ? [span(' (dry run: nothing was stored)', 'dim')] : []),
]

/** `orrery validate FILE…`: the same checks, without a server. */
export async function validateFiles(
  deps: CliDeps,
  output: Output,
  paths: string[],
  flags: { recursive?: boolean; namespace?: string },
): Promise<number> {
  const documents = await readManifests(deps, output, {
    paths,
    recursive: flags.recursive ?? false,
    namespace: flags.namespace ?? null,
  })
  const warnings = remarksOn(documents)
  if (output.isData) {
    const resources = documents.map(({ kind, namespace, name, place }) => ({ kind, namespace, name, ...place }))
    output.printData({ valid: true, resources, ...(warnings.length > 0 ? { warnings } : {}) })
    return 0
  }
  output.print(...documents.map((document): Line => [span(`${shortName(document)} `), span('valid', 'good')]))
  output.remark(...warnings.map((warning) => `warning: ${warning}`))
  return 0
}

/** `orrery diff -f FILE…`: what apply would change. Ends with 1 when it would change anything. */
export async function diffFiles(deps: CliDeps, output: Output, flags: FileFlags): Promise<number> {
  const documents = await readFiles(deps, output, flags, 'diff')
  const client = await connectTo(deps, flags)
  const { resources } = await client.resources.apply(textOfDocuments(documents), { dryRun: true })
  const changed = documents.filter((_, i) => resources[i]?.outcome !== 'unchanged')
  const differences: { document: ResourceDocument; before: string; after: string }[] = []
  for (const document of changed) {
    const before = await client.resources.get(document).then(manifestText, (error: unknown) => {
      if (error instanceof Failure && error.code === 'resource.not_found') return ''
      throw error
    })
    differences.push({ document, before, after: yamlOf(visible(document)) })
  }
  if (output.isData)
    output.printData({
      differences: differences.map(({ document: { kind, namespace, name }, before, after }) => ({
        kind,
        namespace,
        name,
        before: before === '' ? null : before,
        after,
      })),
    })
  else for (const found of differences) output.print(...differenceLines(found))
  return changed.length > 0 ? 1 : 0
}

/** A manifest as the server would show it: values of secrets are compared by the server alone. */
const visible = (document: ResourceDocument) =>
  manifestOf({
    ...document,
    expected: { uid: null, resourceVersion: null },
    spec: kindOf(document.kind).present(document.spec),
  })

function differenceLines({
  document,
  before,
  after,
}: {
  document: ResourceDocument
  before: string
  after: string
}): Line[] {
  const name = shortName(document)
  const lines = shorten(diffLines(before, after), CONTEXT_LINES)
  if (before === after) return [[span(name, 'bold')], [span(`  values differ; they are not shown (${HIDDEN})`, 'warn')]]
  const marks = { ' ': undefined, '-': 'bad', '+': 'good' } as const
  return [
    [span(`--- ${name} ${before === '' ? '(does not exist)' : 'on the server'}`, 'bold')],
    [span(`+++ ${name} in ${document.place.file}`, 'bold')],
    ...lines.map((line): Line => {
      if (line === null) return [span('@@ …', 'dim')]
      return [span(`${line.mark}${printableLine(line.text)}`, marks[line.mark])]
    }),
  ]
}

async function readFiles(
  deps: CliDeps,
  output: Output,
  flags: FileFlags,
  command: string,
): Promise<ResourceDocument[]> {
  const paths = flags.filename ?? []
  if (paths.length === 0)
    throw usageFailure(`${command} needs a file`, `Write orrery ${command} -f FILE, -f DIR or -f -.`)
  return readManifests(deps, output, {
    paths,
    recursive: flags.recursive ?? false,
    namespace: flags.namespace ?? null,
  })
}

export const connectTo = (deps: CliDeps, flags: ServerFlags) => connect(deps, flags)
