import { describe, expect, test } from 'vitest'
import { tableLines } from './table.ts'
import { paint } from './terminal-text.ts'

const columns = [{ title: 'ID' }, { title: 'STATE' }, { title: 'TOOK', align: 'right' as const }]
const rows = [
  [{ text: 'run_1' }, { text: 'failed', style: 'bad' as const }, { text: '1.2s' }],
  [{ text: 'run_22' }, { text: 'ok' }, { text: '12.0s' }],
]
const text = (width: number | null) =>
  tableLines(columns, rows, { width }).map((line) => paint(line, { colour: false }))

describe('tableLines', () => {
  test('aligns columns to the widest cell', () => {
    expect(text(null)).toEqual(['ID      STATE    TOOK', 'run_1   failed   1.2s', 'run_22  ok      12.0s'])
  })

  test('cuts lines at the width of the terminal', () => {
    expect(text(12)).toEqual(['ID      STA…', 'run_1   fai…', 'run_22  ok …'])
  })
})
