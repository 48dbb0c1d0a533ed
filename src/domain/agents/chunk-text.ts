/** How far from its end a piece looks for a better place to end. */
const SOUGHT = 0.25
const ENDS = ['\n\n', '\n', ' ']

/**
 * Cuts a text into pieces of at most `chunkSize` UTF-16 units, each of which begins with the last `overlap` of the one before. A piece ends at a paragraph,
 * else a line, else a blank, when there is one in its last quarter; never inside a character. Every character of the text is in a piece.
 */
export function chunkText(text: string, { chunkSize, overlap }: { chunkSize: number; overlap: number }): string[] {
  const pieces: string[] = []
  for (let start = 0; start < text.length;) {
    const end = endOf(text, start, chunkSize)
    pieces.push(text.slice(start, end))
    if (end >= text.length) break
    const next = whole(text, end - overlap)
    // It has to go on, however much of it is repeated.
    start = next > start ? next : end
  }
  return pieces
}

function endOf(text: string, start: number, chunkSize: number): number {
  const most = start + chunkSize
  if (most >= text.length) return text.length
  const least = start + Math.ceil(chunkSize * (1 - SOUGHT))
  for (const mark of ENDS) {
    const at = text.lastIndexOf(mark, most - mark.length)
    if (at + mark.length >= least) return at + mark.length
  }
  return whole(text, most)
}

/** Before the character that a place is inside of. */
function whole(text: string, at: number): number {
  const isInside = /[\uDC00-\uDFFF]/.test(text.charAt(at)) && /[\uD800-\uDBFF]/.test(text.charAt(at - 1))
  return isInside ? at - 1 : at
}

/** Key of a piece: `SOURCE/chunk-0001`. What is found by it begins with `chunkPrefix`. */
export const chunkKey = (source: string, n: number): string => `${chunkPrefix(source)}${String(n).padStart(4, '0')}`

export const chunkPrefix = (source: string): string => `${source}/chunk-`
