import { formatDuration } from '../base/index.ts'
import type { ResourceView } from '../contract/resource-types.ts'
import { manifestOf } from '../domain/kinds/documents.ts'
import { findKindByWord, type KindName, kindOf, KINDS } from '../domain/kinds/registry.ts'
import type { Cell, Column } from './table.ts'
import { printableLine } from './terminal-text.ts'
import { usageFailure } from './usage.ts'
import { yamlOf } from './yaml-text.ts'

/** The kind behind a word such as workflow, workflows or wf. */
export function kindOfWord(word: string): KindName {
  const found = findKindByWord(word)
  if (found.kind) return found.kind.kind
  const all = KINDS.map((row) => `${row.plural} (${row.shortNames.join(', ')})`).join(', ')
  throw usageFailure(
    `there is no kind ${JSON.stringify(word)}`,
    `${found.near ? `Did you mean ${found.near}? ` : ''}Kinds are ${all}.`,
  )
}

/** `KIND NAME…` or `KIND/NAME`: the kind, and the names that were given. */
export function namesOf(word: string, names: readonly string[]): { kind: KindName; names: string[] } {
  const [kind = '', joined] = word.split('/')
  return { kind: kindOfWord(kind), names: joined === undefined ? [...names] : [joined, ...names] }
}

/** `workflow/report`, with its namespace where that is not the default one. */
export const shortName = (of: { kind: KindName; namespace: string; name: string }): string =>
  `${of.kind.toLowerCase()}/${of.name}${of.namespace === 'default' ? '' : ` in ${of.namespace}`}`

/** A resource as somebody would write it. */
export const manifestText = ({ kind, metadata, spec }: ResourceView): string =>
  yamlOf(manifestOf({ kind, ...metadata, spec }))

export function columnsOf(kind: KindName, options: { namespaces: boolean }): Column[] {
  return [
    ...(options.namespaces ? [{ title: 'NAMESPACE' }] : []),
    { title: 'NAME' },
    ...kindOf(kind).columns.map(({ title, align, wide }) => ({
      title,
      ...(align ? { align } : {}),
      ...(wide ? { wide } : {}),
    })),
    { title: 'AGE', align: 'right' },
    { title: 'LABELS', wide: true },
  ]
}

export function rowOf(resource: ResourceView, options: { namespaces: boolean; nowMs: number }): Cell[] {
  const { metadata } = resource
  const texts = [
    ...(options.namespaces ? [metadata.namespace] : []),
    metadata.name,
    ...kindOf(resource.kind).columns.map((column) => column.text(resource)),
    formatDuration(Math.max(0, options.nowMs - Date.parse(metadata.createdAt))),
    labelsText(metadata.labels),
  ]
  return texts.map((text) => ({ text: printableLine(text) }))
}

export const labelsText = (labels: Record<string, string>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
