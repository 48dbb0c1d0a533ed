/** What stands in a pattern for other than itself, here and not below. */
const OTHER_SYNTAX = /[[{]|[?*+@!]\(/

/** False for braces, classes of characters and groups, which a pattern over names has not: `?` stands for any one character of them. */
export const isFilePattern = (pattern: string): boolean => !OTHER_SYNTAX.test(pattern)

/**
 * Whether names fit a pattern: `*` is any characters within a folder, `?` is one, `**` as a whole part any number of folders, or all that lies below
 * where it comes last. A part that begins with a dot fits only where the pattern has the dot too.
 * Takes time by the length of the pattern times that of the name and never more, because anybody who may write a workflow chooses both. Pure.
 */
export function filePattern(pattern: string): (name: string) => boolean {
  const parts = pattern.split('/')
  // What comes last names a file: `a/**` is not `a` itself.
  if (parts.at(-1) === '**') parts.push('*')
  const pieces = parts.map((part) => (part === '**' ? null : [...part]))
  return (name) => fitsPath(pieces, name)
}

/** `fits[n]`: the pieces so far are the first n parts of the name. */
function fitsPath(pieces: readonly (readonly string[] | null)[], name: string): boolean {
  const parts = name.split('/').map((part) => [...part])
  let fits = [true, ...parts.map(() => false)]
  for (const piece of pieces) {
    let goesOn = false
    fits = fits.map((fit, n) => {
      const part = parts[n - 1]
      goesOn = fit || (goesOn && part?.[0] !== '.')
      if (piece === null) return goesOn
      return part !== undefined && fits[n - 1] === true && fitsPart(piece, part)
    })
    if (!fits.includes(true)) return false
  }
  return fits.at(-1) === true
}

/** Goes back to the last star only: what an earlier one could take, the last can take as well. */
function fitsPart(piece: readonly string[], part: readonly string[]): boolean {
  if (part[0] === '.' && piece[0] !== '.') return false
  let at = 0
  let star = -1
  let from = 0
  for (let n = 0; n < part.length;) {
    if (piece[at] === '*') {
      star = at++
      from = n
    } else if (piece[at] === '?' || piece[at] === part[n]) {
      at++
      n++
    } else if (star >= 0) {
      at = star + 1
      n = ++from
    } else return false
  }
  while (piece[at] === '*') at++
  return at === piece.length
}
