import { stringify } from 'yaml'
import { formatDuration } from '../base/index.ts'
import type { ResourceView } from '../contract/resource-types.ts'
import { manifestOf } from '../domain/kinds/documents.ts'
import { findKindByWord, type KindName, kindOf, KINDS } from '../domain/kinds/registry.ts'
import type { Cell, Column } from './table.ts'
import { printableLine } from './terminal-text.ts'
import { usageFailure } from './usage.ts'

export type ResourceFormat = 'table' | 'wide' | 'json' | 'yaml'
const FORMATS: readonly ResourceFormat[] = ['table', 'wide', 'json', 'yaml']

/** What `-o` says, or what `--json` says for it. */
export function formatOf(given: string | undefined, json: boolean): ResourceFormat {
  if (given === undefined) return json ? 'json' : 'table'
  const format = FORMATS.find((known) => known === given)
  if (format) return format
  throw usageFailure(`-o ${given} is no format`, `Formats are ${FORMATS.join(', ')}.`)
}

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

// No line breaks inside texts: what is compared and edited line by line must not change when the width does.
const YAML = { lineWidth: 0 } as const

export const yamlOf = (value: unknown): string => stringify(value, YAML)

/** A resource as somebody would write it. */
export const manifestText = ({ kind, metadata, spec }: ResourceView): string =>
  yamlOf(manifestOf({ kind, ...metadata, spec }))

export function columnsOf(kind: KindName, options: { wide: boolean; namespaces: boolean }): Column[] {
  return [
    ...(options.namespaces ? [{ title: 'NAMESPACE' }] : []),
    { title: 'NAME' },
    ...kindOf(kind)
      .columns.filter((column) => options.wide || !column.wide)
      .map(({ title, align }) => ({ title, ...(align ? { align } : {}) })),
    { title: 'AGE', align: 'right' },
    ...(options.wide ? [{ title: 'LABELS' }] : []),
  ]
}

export function rowOf(resource: ResourceView, options: { wide: boolean; namespaces: boolean; nowMs: number }): Cell[] {
  const { metadata } = resource
  const columns = kindOf(resource.kind).columns.filter((column) => options.wide || !column.wide)
  const texts = [
    ...(options.namespaces ? [metadata.namespace] : []),
    metadata.name,
    ...columns.map((column) => column.text(resource)),
    formatDuration(Math.max(0, options.nowMs - Date.parse(metadata.createdAt))),
    ...(options.wide ? [labelsText(metadata.labels)] : []),
  ]
  return texts.map((text) => ({ text: printableLine(text) }))
}

export const labelsText = (labels: Record<string, string>): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
