import { displayWidth, fitLine, type Line, padEnd, padStart, span, type Style } from './terminal-text.ts'

export interface Column {
  title: string
  align?: 'left' | 'right'
  /** Shown with `-o wide` alone. */
  wide?: boolean
  /** What `-o name` prints: a name that other commands take. */
  isName?: boolean
}

export interface Cell {
  text: string
  style?: Style
}

const GAP = '  '

/** Rows under a head, each column as wide as its widest cell; lines are cut at `width`, null cuts nothing. */
export function tableLines(
  columns: readonly Column[],
  rows: readonly Cell[][],
  options: { width: number | null; wide?: boolean },
): Line[] {
  const shown = columns.map((column) => options.wide === true || column.wide !== true)
  const visible = <T>(items: readonly T[]): T[] => items.filter((_, i) => shown[i])
  const titles = visible(columns)
  const cells = rows.map(visible)
  const widths = titles.map((column, i) =>
    Math.max(displayWidth(column.title), ...cells.map((row) => displayWidth(row[i]?.text ?? ''))),
  )
  const lineOf = (row: Cell[]): Line => {
    const line = row.flatMap((cell, i): Line => {
      const width = widths[i] ?? 0
      const text = titles[i]?.align === 'right' ? padStart(cell.text, width) : padEnd(cell.text, width)
      return [...(i === 0 ? [] : [span(GAP)]), span(text, cell.style)]
    })
    return options.width === null ? line : fitLine(line, options.width)
  }
  return [lineOf(titles.map((c) => ({ text: c.title, style: 'dim' }))), ...cells.map(lineOf)]
}
