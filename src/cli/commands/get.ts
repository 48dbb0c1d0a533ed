import { formatDuration } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { ResourceChange } from '../../client/resource-client.ts'
import type { ResourceView } from '../../contract/resource-types.ts'
import { API_VERSION, DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import { type KindName, kindOf } from '../../domain/kinds/registry.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { CliDeps } from '../deps.ts'
import { Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { columnsOf, labelsText, namesOf, rowOf } from '../resource-text.ts'
import { tableLines } from '../table.ts'
import { type Line, padEnd, printableLine, span } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { yamlOf } from '../yaml-text.ts'
import { connectTo } from './apply.ts'
import type { ServerFlags } from './runs.ts'

export interface GetFlags extends ServerFlags {
  selector?: string
  namespace?: string
  allNamespaces?: boolean
  watch?: boolean
}

/** `orrery get KIND [NAME…]`. */
export async function getResources(
  deps: CliDeps,
  output: Output,
  given: { kind: string; names: string[] },
  flags: GetFlags,
): Promise<number> {
  const { kind, names } = namesOf(given.kind, given.names)
  if (flags.allNamespaces && flags.namespace !== undefined)
    throw usageFailure('--all-namespaces cannot be used together with --namespace', 'Leave one of them out.')
  if (names.length > 0 && (flags.selector !== undefined || flags.allNamespaces))
    throw usageFailure('a name cannot be used together with --selector or --all-namespaces', 'Leave one of them out.')
  if (flags.watch && names.length > 1) throw usageFailure('--watch follows one resource, or all of a kind')
  const client = await connectTo(deps, flags)
  if (flags.watch) return watch(deps, output, client, { kind, name: names[0], flags })
  const namespace = flags.namespace ?? DEFAULT_NAMESPACE
  const items =
    names.length > 0
      ? await Promise.all(names.map((name) => client.resources.get({ kind, namespace, name })))
      : await listAll(client, kind, flags)
  const one = names.length === 1 ? items[0] : undefined
  if (output.format === 'json') output.printData(one ?? { apiVersion: API_VERSION, kind: 'List', items })
  else if (output.format === 'yaml') for (const item of items) output.printData(item)
  else if (items.length === 0) output.remark(emptyRemark(kind, flags))
  else if (output.format === 'name') output.print(...items.map(nameOf))
  else {
    const shape = { namespaces: flags.allNamespaces ?? false, nowMs: deps.clock.now() }
    output.printTable(
      columnsOf(kind, shape),
      items.map((item) => rowOf(item, shape)),
    )
  }
  return 0
}

/** As other commands take it. */
const nameOf = ({ kind, metadata }: ResourceView): string => `${kind.toLowerCase()}/${metadata.name}`

async function listAll(client: Client, kind: KindName, flags: GetFlags): Promise<ResourceView[]> {
  const items: ResourceView[] = []
  for (let cursor: string | undefined; ;) {
    const page = await client.resources.list(kind, {
      ...selectionOf(flags),
      limit: LIMITS.pageMax,
      ...(cursor === undefined ? {} : { cursor }),
    })
    items.push(...page.items)
    if (page.next === null) return items
    cursor = page.next
  }
}

const selectionOf = (flags: GetFlags) => ({
  ...(flags.allNamespaces ? {} : { namespace: flags.namespace ?? DEFAULT_NAMESPACE }),
  ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
})

function emptyRemark(kind: KindName, flags: GetFlags): string {
  const { plural } = kindOf(kind)
  if (flags.selector !== undefined) return `No ${plural} fit this selector. orrery get ${plural} -A shows all.`
  return flags.allNamespaces
    ? `No ${plural} yet. Store one: orrery apply -f FILE`
    : `No ${plural} in namespace ${flags.namespace ?? DEFAULT_NAMESPACE}. orrery get ${plural} -A shows those of all; orrery apply -f FILE stores one.`
}

/** Prints a line for each change until the command is interrupted. */
async function watch(
  deps: CliDeps,
  output: Output,
  client: Client,
  what: { kind: KindName; name: string | undefined; flags: GetFlags },
): Promise<number> {
  const { kind, name, flags } = what
  const interrupts = new Interrupts(deps)
  const stop = new AbortController()
  void interrupts.first.then(() => stop.abort())
  const shape = { namespaces: flags.allNamespaces ?? false }
  const wide = output.format === 'wide'
  const events = client.resources.watch(kind, {
    ...selectionOf(flags),
    ...(name === undefined ? {} : { fieldSelector: `metadata.name=${name}` }),
    signal: stop.signal,
  })
  let head: Line[] | null = tableLines([{ title: 'EVENT   ' }, ...columnsOf(kind, shape)], [], { width: null, wide })
  try {
    for await (const { type, resource } of eachOf(events)) {
      if (output.isData) output.printData({ type, resource })
      else if (output.format === 'name') output.print(nameOf(resource))
      else {
        const titles = [{ title: 'EVENT   ' }, ...columnsOf(kind, shape)]
        const row = [{ text: type }, ...rowOf(resource, { ...shape, nowMs: deps.clock.now() })]
        const [, line = []] = tableLines(titles, [row], { width: output.tableWidth, wide })
        output.print(...(head ?? []), line)
        head = null
      }
    }
    return 0
  } catch (error) {
    if (stop.signal.aborted) return 0
    throw error
  } finally {
    interrupts.stop()
  }
}

/** A list that begins the watch anew is shown row by row. */
async function* eachOf(
  changes: AsyncIterable<ResourceChange>,
): AsyncIterable<{ type: ResourceChange['type']; resource: ResourceView }> {
  for await (const change of changes)
    if (change.type !== 'listed') yield change
    else for (const resource of change.resources) yield { type: 'listed', resource }
}

/** Versions of a workflow and runs that `describe` shows. */
const VERSIONS_SHOWN = 10
const RUNS_SHOWN = 5

/** `orrery describe KIND NAME`: everything that is known of one resource, for a person. */
export async function describeResource(
  deps: CliDeps,
  output: Output,
  given: { kind: string; names: string[] },
  flags: ServerFlags & { namespace?: string },
): Promise<number> {
  const { kind, names } = namesOf(given.kind, given.names)
  const [name] = names
  if (name === undefined || names.length > 1)
    throw usageFailure('describe shows one resource', `Write orrery describe ${kind.toLowerCase()} NAME.`)
  const client = await connectTo(deps, flags)
  const ref = { kind, namespace: flags.namespace ?? DEFAULT_NAMESPACE, name }
  const resource = await client.resources.get(ref)
  const versions = kindOf(kind).isVersioned
    ? (await client.resources.listVersions(ref, { limit: VERSIONS_SHOWN })).items
    : []
  const runs =
    kind === 'Workflow'
      ? (await client.listRuns({ namespace: ref.namespace, workflow: name, limit: RUNS_SHOWN })).items
      : []
  if (output.isData) {
    output.printData({ resource, versions, runs })
    return 0
  }
  const now = deps.clock.now()
  const ago = (time: string): string => `${formatDuration(Math.max(0, now - Date.parse(time)))} ago`
  const { metadata, status, spec } = resource
  const facts: [string, string][] = [
    ['Name', metadata.name],
    ['Namespace', metadata.namespace],
    ['Kind', resource.kind],
    ['Labels', labelsText(metadata.labels) || '-'],
    ...Object.entries(metadata.annotations).map(([key, value]): [string, string] => [`Annotation ${key}`, value]),
    ['Phase', status.phase],
    ['Generation', `${metadata.generation}, observed ${status.observedGeneration}`],
    ['Version', `${metadata.resourceVersion} of uid ${metadata.uid}`],
    ['Created', ago(metadata.createdAt)],
    ['Changed', ago(metadata.updatedAt)],
  ]
  const width = Math.max(...facts.map(([label]) => label.length)) + 2
  output.print(...facts.map(([label, text]): Line => [span(padEnd(label, width), 'dim'), span(printableLine(text))]))
  output.print([], [span('Conditions', 'bold')])
  for (const c of status.conditions)
    output.print([span(`  ${c.type}=${c.status}  ${c.reason}: ${c.message}  `), span(`since ${ago(c.since)}`, 'dim')])
  if (versions.length > 0) {
    output.print([], [span('Versions', 'bold')])
    const rows = versions.map((v) => [String(v.version), v.lifecycle, ago(v.createdAt), v.createdBy])
    output.print(...indented(['VERSION', 'LIFECYCLE', 'APPLIED', 'BY'], rows))
  }
  if (runs.length > 0) {
    output.print([], [span('Latest runs', 'bold')])
    const rows = runs.map((run) => [run.id, run.state, ago(run.createdAt), run.failure?.code ?? ''])
    output.print(...indented(['ID', 'STATE', 'CREATED', 'FAILURE'], rows))
  }
  output.print([], [span('Spec', 'bold')])
  output.print(
    ...yamlOf(spec)
      .trimEnd()
      .split('\n')
      .map((line): Line => [span(`  ${printableLine(line)}`)]),
  )
  return 0
}

const indented = (titles: string[], rows: string[][]): Line[] =>
  tableLines(
    titles.map((title) => ({ title })),
    rows.map((row) => row.map((text) => ({ text: printableLine(text) }))),
    { width: null },
  ).map((line) => [span('  '), ...line])
