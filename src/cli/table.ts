import { displayWidth, fitLine, type Line, padEnd, padStart, span, type Style } from './terminal-text.ts'

export interface Column {
  title: string
  align?: 'left' | 'right'
}

export interface Cell {
  text: string
  style?: Style
}

const GAP = '  '

/** Rows under a head, each column as wide as its widest cell; lines are cut at `width`, null cuts nothing. */
export function tableLines(columns: Column[], rows: Cell[][], options: { width: number | null }): Line[] {
  const widths = columns.map((column, i) =>
    Math.max(displayWidth(column.title), ...rows.map((row) => displayWidth(row[i]?.text ?? ''))),
  )
  const lineOf = (cells: Cell[]): Line => {
    const line = cells.flatMap((cell, i): Line => {
      const width = widths[i] ?? 0
      const text = columns[i]?.align === 'right' ? padStart(cell.text, width) : padEnd(cell.text, width)
      return [...(i === 0 ? [] : [span(GAP)]), span(text, cell.style)]
    })
    return options.width === null ? line : fitLine(line, options.width)
  }
  return [lineOf(columns.map((c) => ({ text: c.title, style: 'dim' }))), ...rows.map(lineOf)]
}
