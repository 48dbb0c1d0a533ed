import type { Json, JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { failureOfProblems, type Problem } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import { formatPath, type Path } from '../place.ts'
import { capped, isObject, type Placed, placedProblem, unplaced } from '../placed-problem.ts'
import type { Definition } from '../workflow.ts'
import { type ReadYaml, readYamlDocuments } from '../yaml.ts'
import { API_VERSION, DEFAULT_NAMESPACE } from './envelope.ts'
import { findKind, type KindName, KINDS } from './registry.ts'

/** A resource as somebody wrote it, checked. */
export interface ResourceDocument {
  kind: KindName
  namespace: string
  name: string
  labels: Record<string, string>
  annotations: Record<string, string>
  /** As it was written: nothing filled in, nothing converted. */
  spec: JsonObject
  /** The state that the writer knew; null: any. */
  expected: { uid: string | null; resourceVersion: string | null }
  /** What a workflow compiles to; null for other kinds. */
  definition: Definition | null
  place: { file: string; line: number; column: number }
}

export interface DocumentsFrom {
  /** What problems call the text. */
  file: string
  /** Where documents go that name no namespace. A document that names another one is a problem, unless this is null. */
  namespace: string | null
}

export type ReadResources = { documents: ResourceDocument[]; problems: Problem[] }

/** The resources of a YAML or JSON text. Throws one failure with the problems of all documents, each with its place. */
export function parseResources(text: string, from: DocumentsFrom): ResourceDocument[] {
  const { documents, problems } = readResources([{ text, file: from.file }], from.namespace)
  if (problems.length > 0) throw failureOfProblems(problems, `reading ${from.file}`)
  return documents
}

/** The resources of several texts with every problem of all of them. Never throws. */
export function readResources(texts: { text: string; file: string }[], namespace: string | null): ReadResources {
  const documents: ResourceDocument[] = []
  const problems: Problem[] = []
  const seen = new Map<string, ResourceDocument>()
  for (const { text, file } of texts) {
    const read = readYamlDocuments(text)
    const found: Problem[] = [...read.problems]
    if (read.documents.length === 0 && found.length === 0)
      found.push({ code: 'manifest.invalid', message: 'the manifest is empty', path: '', line: 1, column: 1 })
    for (const [i, yaml] of read.documents.entries()) {
      const number = read.documents.length > 1 ? { document: i + 1 } : {}
      const checked = checkDocument(yaml, { file, namespace }, seen)
      documents.push(...checked.documents)
      for (const problem of checked.problems) found.push({ ...problem, ...number })
    }
    const sorted = found.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
    for (const problem of sorted) problems.push({ ...problem, file })
  }
  if (documents.length > LIMITS.documentsMax)
    problems.push({
      code: 'request.too_large',
      message: `there are ${documents.length} documents; the limit is ${LIMITS.documentsMax}`,
      path: '',
    })
  return { documents, problems: problems.slice(0, LIMITS.problemsMax) }
}

function checkDocument(yaml: ReadYaml, from: DocumentsFrom, seen: Map<string, ResourceDocument>): ReadResources {
  if (yaml.value === undefined) return { documents: [], problems: yaml.problems }
  const documents: ResourceDocument[] = []
  const placed: Placed[] = []
  for (const { value, base } of itemsOf(yaml.value)) {
    const { document, problems } = checkResource(value, from.namespace)
    for (const found of problems) placed.push(base.length === 0 ? found : below(found, base))
    if (!document) continue
    const whole: ResourceDocument = { ...document, place: { file: from.file, ...yaml.placeOf(base, 'value') } }
    const key = JSON.stringify([whole.kind, whole.namespace, whole.name])
    const former = seen.get(key)
    seen.set(key, former ?? whole)
    documents.push(whole)
    if (!former) continue
    const message = `${whole.kind} ${whole.namespace}/${whole.name} is there twice; first at ${former.place.file}:${former.place.line}`
    placed.push(placedProblem('manifest.invalid', message, [...base, 'metadata', 'name']))
  }
  // Capped before the places are sought: that costs a walk for each.
  const problems = capped(placed).map((found) => ({ ...unplaced(found), ...yaml.placeOf(found.parts, found.at) }))
  return { documents, problems: [...yaml.problems, ...problems] }
}

/** The resources in a document: itself, or those of a list as `get -o json` prints it. */
function itemsOf(value: Json): { value: Json; base: Path }[] {
  if (!isObject(value) || value['kind'] !== 'List' || !Array.isArray(value['items'])) return [{ value, base: [] }]
  return value['items'].map((item, i) => ({ value: item, base: ['items', i] }))
}

function below(found: Placed, base: Path): Placed {
  const parts = [...base, ...found.parts]
  return { ...found, parts, path: formatPath(parts) }
}

/** One resource that was parsed already, without its place. Never throws. */
export function checkResource(
  value: Json,
  namespace: string | null,
): { document: Omit<ResourceDocument, 'place'> | null; problems: Placed[] } {
  const refuse = (message: string, path: Path, meant?: () => string | null) => ({
    document: null,
    problems: [placedProblem('manifest.invalid', message, path, meant)],
  })
  if (!isObject(value)) return refuse('must be a map with apiVersion, kind, metadata and spec', [])
  const named = value['kind']
  const kinds = KINDS.map((row) => row.kind)
  if (named === undefined) return refuse(`is required; kinds are ${kinds.join(', ')}`, ['kind'])
  const kind = typeof named === 'string' ? findKind(named) : null
  if (!kind)
    return refuse(
      `there is no kind ${JSON.stringify(named).slice(0, 100)}; kinds are ${kinds.join(', ')}`,
      ['kind'],
      () => (typeof named === 'string' ? nearest(named, kinds) : null),
    )
  const metadata = isObject(value['metadata']) ? value['metadata'] : null
  const own = metadata?.['namespace']
  const filled =
    metadata && own === undefined
      ? { ...value, metadata: { ...metadata, namespace: namespace ?? DEFAULT_NAMESPACE } }
      : value
  const { problems, definition } = kind.check(filled)
  const strays = namespace !== null && typeof own === 'string' && own !== namespace
  const all = strays
    ? [
        ...problems,
        placedProblem(
          'manifest.invalid',
          `is not ${namespace}, the namespace that was asked for; leave one of them out`,
          ['metadata', 'namespace'],
        ),
      ]
    : problems
  if (all.length > 0) return { document: null, problems: all }
  return { document: { ...bodyOf(filled), kind: kind.kind, definition: definition ?? null }, problems: [] }
}

/** What the envelope of a checked document says; the schema has proven every type here. */
function bodyOf(value: JsonObject): Omit<ResourceDocument, 'place' | 'kind' | 'definition'> {
  const metadata = value['metadata'] as {
    name: string
    namespace: string
    labels?: Record<string, string>
    annotations?: Record<string, string>
    uid?: string
    resourceVersion?: string
  }
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    spec: value['spec'] as JsonObject,
    expected: { uid: metadata.uid ?? null, resourceVersion: metadata.resourceVersion ?? null },
  }
}

/** The manifest of a resource, as somebody would write it. */
export function manifestOf(document: {
  kind: string
  namespace: string
  name: string
  labels: Record<string, string>
  annotations: Record<string, string>
  spec: JsonObject
  /** The state that the writer knew. */
  expected?: ResourceDocument['expected']
}): JsonObject {
  const { kind, namespace, name, labels, annotations, spec, expected } = document
  return {
    apiVersion: API_VERSION,
    kind,
    metadata: {
      name,
      namespace,
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ...(expected?.uid ? { uid: expected.uid } : {}),
      ...(expected?.resourceVersion ? { resourceVersion: expected.resourceVersion } : {}),
    },
    spec,
  }
}
