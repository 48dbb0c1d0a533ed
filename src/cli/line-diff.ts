/** One line of a comparison. */
export interface DiffLine {
  mark: ' ' | '-' | '+'
  text: string
}

/** Beyond this the middle is shown as taken out and put in whole: a table of its size would take too long. */
const CELLS_MAX = 4_000_000

/** What turns one text into the other, line by line. Pure. */
export function diffLines(before: string, after: string): DiffLine[] {
  const a = linesOf(before)
  const b = linesOf(after)
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++
  const same = (lines: string[]): DiffLine[] => lines.map((text) => ({ mark: ' ', text }))
  return [
    ...same(a.slice(0, head)),
    ...middle(a.slice(head, a.length - tail), b.slice(head, b.length - tail)),
    ...same(a.slice(a.length - tail)),
  ]
}

const linesOf = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'))

/** By the longest common subsequence. */
function middle(a: string[], b: string[]): DiffLine[] {
  const out: DiffLine[] = []
  if (a.length * b.length > CELLS_MAX)
    return [...a.map((text): DiffLine => ({ mark: '-', text })), ...b.map((text): DiffLine => ({ mark: '+', text }))]
  const width = b.length + 1
  const length = new Uint32Array((a.length + 1) * width)
  const at = (i: number, j: number): number => length[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      length[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ mark: ' ', text: a[i] ?? '' })
      i++
      j++
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1)))
      out.push({ mark: '-', text: a[i++] ?? '' })
    else out.push({ mark: '+', text: b[j++] ?? '' })
  }
  return out
}

/** The changed lines with `context` lines around them; `…` stands for what was left out. */
export function shorten(lines: readonly DiffLine[], context: number): (DiffLine | null)[] {
  const near = new Set<number>()
  for (const [i, line] of lines.entries())
    if (line.mark !== ' ') for (let k = i - context; k <= i + context; k++) near.add(k)
  const out: (DiffLine | null)[] = []
  for (const [i, line] of lines.entries()) {
    if (near.has(i)) out.push(line)
    else if (out.at(-1) !== null) out.push(null)
  }
  return out
}
