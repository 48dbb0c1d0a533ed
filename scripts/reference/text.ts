/** Markdown of the reference pages. */

export type Row = readonly string[]

/** A table; what would end a cell is escaped. */
export function table(head: Row, rows: readonly Row[]): string[] {
  const line = (cells: Row) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line), '']
}

export const code = (text: string): string => (text === '' ? '' : `\`${text}\``)

/** A page: its title, where it comes from, its body. */
export const page = (title: string, source: string, ...body: string[]): string =>
  [`# ${title}`, '', `Made from ${source} by \`npm run reference\`; do not edit it.`, '', ...body]
    .join('\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trimEnd() + '\n'

/** Bytes and milliseconds for people; exact, or not at all. */
export function bytesText(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const)
    if (bytes >= size && bytes % size === 0) return `${bytes / size} ${unit}`
  return `${bytes.toLocaleString('en')} bytes`
}

export function durationText(ms: number): string {
  for (const [unit, size] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
  ] as const)
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`
  return `${ms}ms`
}
