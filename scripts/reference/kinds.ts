import { type Field, fieldsOf } from '../../src/domain/kinds/fields.ts'
import type { Kind } from '../../src/domain/kinds/kind.ts'
import { code, durationText, page, table } from './text.ts'

/** The page of one kind of resource: every member that its manifest takes. */
export function kindPage(kind: Kind): string {
  const fields = fieldsOf(kind.schema)
  const isEnvelope = ({ path }: Field) => !path.startsWith('spec')
  const isStep = ({ path }: Field) => path.startsWith('spec.steps[].')
  const sections: [title: string, note: string, fields: Field[]][] = [
    ['The envelope', 'What every resource has around its `spec`.', fields.filter(isEnvelope)],
    ['The spec', '', fields.filter((field) => !isEnvelope(field) && !isStep(field))],
    ['A step', 'What a member of `spec.steps` takes.', fields.filter(isStep)],
  ]
  return page(
    `Manifest of a ${kind.kind}`,
    'its schema',
    kind.summary,
    '',
    'A key that is not listed here is an error. `[]` is an item of a list, `*` any name. A **duration** is a text such as `500ms`, `30s`, `5m`,',
    '`1h30m` or `2d`, a year at most. An **expression** is [CEL](https://cel.dev), with or without `${{ }}` around it; a **template** is a text with `${{ }}` in it.',
    '',
    ...sections.flatMap(([title, note, rows]) =>
      rows.length === 0
        ? []
        : [
            `## ${title}`,
            '',
            note,
            '',
            ...table(
              ['field', 'type', 'default', 'meaning', 'limits'],
              rows.map((field) => [
                code(field.path.replace('spec.steps[].', '')) + (field.isRequired ? ' **(required)**' : ''),
                field.type,
                fallbackText(field),
                field.description ?? '',
                field.limits.join(', '),
              ]),
            ),
          ],
    ),
  )
}

function fallbackText({ fallback, type }: Field): string {
  if (fallback === undefined || fallback === null) return ''
  if (type === 'duration' && typeof fallback === 'number') return code(durationText(fallback))
  if (typeof fallback === 'object')
    return Object.keys(fallback).length === 0 || Array.isArray(fallback) ? '' : 'as below'
  return code(JSON.stringify(fallback).replaceAll('"', ''))
}
