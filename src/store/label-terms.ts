import type { LabelTerm } from '../domain/kinds/selector.ts'

/**
 * SQL that holds where the column `labels` meets every term. `terms` and `exact` are the numbers of the two parameters that
 * `termParams` gives: what each term says, and as one object what an index can look up.
 */
export const meetsTerms = (terms: number, exact: number): string => `not exists (
        select 1 from jsonb_to_recordset($${terms}::jsonb) as t(op text, key text, vals jsonb)
         where not case t.op when 'in' then coalesce(t.vals ? (labels ->> t.key), false)
                             when 'notin' then not coalesce(t.vals ? (labels ->> t.key), false)
                             when 'exists' then labels ? t.key
                             else not labels ? t.key end)
      and labels @> $${exact}::jsonb`

export const termParams = (terms: readonly LabelTerm[]): [string, string] => [
  JSON.stringify(terms.map((t) => ({ op: t.op, key: t.key, vals: 'values' in t ? t.values : [] }))),
  JSON.stringify(
    Object.fromEntries(
      terms.flatMap((t) => (t.op === 'in' && t.values.length === 1 ? [[t.key, t.values[0] ?? '']] : [])),
    ),
  ),
]
