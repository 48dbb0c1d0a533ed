import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type MetricRow, METRICS } from './metric-names.ts'

const guide = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'guides', 'observability.md'), 'utf8')

/** `| name | type | labels | help |` as the guide has it, with the padding of the table taken out. */
const rowsOf = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => /^\| `(orrery|process)_\w+` +\|/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim())
        .join(' | '),
    )

function labelsOf({ labels }: MetricRow): string {
  return Object.entries(labels ?? {})
    .map(([name, values]) => `${name}: ${typeof values === 'string' ? `all ${values}` : values.join(' ')}`)
    .join('; ')
}

test('the guide lists every metric with its type, labels and help', () => {
  const rows = (Object.entries(METRICS) as [string, MetricRow][]).map(
    ([name, row]) => `\`${name}\` | ${row.type} | ${row.of} | ${labelsOf(row)} | ${row.help}`,
  )
  expect(rowsOf(guide)).toEqual(rows)
})
