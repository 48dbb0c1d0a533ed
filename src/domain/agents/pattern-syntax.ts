import { LIMITS } from '../limits.ts'

/** What a pattern says. */
export type PatternTree =
  | { type: 'char'; fits: (code: number) => boolean }
  | { type: 'at'; what: 'start' | 'end' | 'word' | 'inside' }
  | { type: 'all'; of: PatternTree[] }
  | { type: 'any'; of: PatternTree[] }
  | { type: 'repeat'; of: PatternTree; min: number; max: number | null; isLazy: boolean }

export type ReadPattern = { kind: 'read'; tree: PatternTree } | { kind: 'wrong'; message: string }

/** Whether the empty text fits. */
export function fitsNothing(tree: PatternTree): boolean {
  switch (tree.type) {
    case 'char':
      return false
    case 'at':
      return true
    case 'all':
      return tree.of.every(fitsNothing)
    case 'any':
      return tree.of.some(fitsNothing)
    case 'repeat':
      return tree.min === 0 || fitsNothing(tree.of)
  }
}

type Fits = (code: number) => boolean

const isDigit: Fits = (code) => code >= 48 && code <= 57
const isWord: Fits = (code) => isDigit(code) || (code >= 65 && code <= 90) || code === 95 || (code >= 97 && code <= 122)
const isSpace: Fits = (code) => /\s/.test(String.fromCodePoint(code))
const isNewline: Fits = (code) => code === 10 || code === 13 || code === 0x2028 || code === 0x2029
const not =
  (fits: Fits): Fits =>
  (code) =>
    !fits(code)
const exactly =
  (wanted: number): Fits =>
  (code) =>
    code === wanted

const CLASSES: Record<string, Fits> = {
  d: isDigit,
  D: not(isDigit),
  w: isWord,
  W: not(isWord),
  s: isSpace,
  S: not(isSpace),
}
const CONTROLS: Record<string, number> = { n: 10, r: 13, t: 9, f: 12, v: 11, 0: 0 }
const AT: Record<string, 'word' | 'inside'> = { b: 'word', B: 'inside' }

/** A pattern is wrong at a place that a person can find. */
class Wrong extends Error {}

/**
 * Reads a regular expression of the part that can be matched in one pass: characters, `.`, classes, groups, alternatives, repetitions, `^`, `$`,
 * `\b`. Never throws.
 */
export function parsePattern(source: string): ReadPattern {
  const chars = [...source]
  let at = 0
  let depth = 0

  const wrong = (message: string): never => {
    throw new Wrong(`${message}, at character ${Math.min(at, chars.length - 1) + 1}`)
  }
  const takes = (char: string): boolean => {
    if (chars[at] !== char) return false
    at++
    return true
  }
  const mustTake = (char: string, what: string): void => {
    if (!takes(char)) wrong(`${what} is not closed`)
  }

  const alternatives = (): PatternTree => {
    const of = [sequence()]
    while (takes('|')) of.push(sequence())
    return of.length === 1 && of[0] ? of[0] : { type: 'any', of }
  }
  const sequence = (): PatternTree => {
    const of: PatternTree[] = []
    while (at < chars.length && chars[at] !== '|' && chars[at] !== ')') of.push(repeated())
    return { type: 'all', of }
  }
  const repeated = (): PatternTree => {
    const of = single()
    const times = repetition()
    if (times === null) return of
    if (of.type === 'at') wrong('a place cannot be repeated')
    if (times.max !== times.min && fitsNothing(of)) wrong('what may be empty cannot be repeated')
    const isLazy = takes('?')
    if (['*', '+', '?'].includes(chars[at] ?? '') || chars[at] === '{') wrong('a repetition cannot be repeated')
    return { type: 'repeat', of, ...times, isLazy }
  }
  const repetition = (): { min: number; max: number | null } | null => {
    if (takes('*')) return { min: 0, max: null }
    if (takes('+')) return { min: 1, max: null }
    if (takes('?')) return { min: 0, max: 1 }
    if (chars[at] !== '{') return null
    const [all, low = '', comma, high = ''] =
      /^\{(\d{1,4})(,(\d{0,4}))?\}/.exec(chars.slice(at, at + 12).join('')) ?? []
    if (all === undefined) return wrong('{ begins a repetition such as {2,4}; write \\{ for the character')
    at += all.length
    const min = Number(low)
    const max = comma === undefined ? min : high === '' ? null : Number(high)
    if (max !== null && max < min) wrong('a repetition ends below its beginning')
    return { min, max }
  }
  const single = (): PatternTree => {
    const char = chars[at] ?? ''
    if (char === '(') return group()
    if (char === '[') return { type: 'char', fits: charClass() }
    if (char === '\\') return escaped()
    if (['*', '+', '?', '{'].includes(char)) wrong(`nothing stands before ${char}`)
    if (char === ']' || char === '}') wrong(`write \\${char} for the character`)
    at++
    if (char === '.') return { type: 'char', fits: not(isNewline) }
    if (char === '^') return { type: 'at', what: 'start' }
    if (char === '$') return { type: 'at', what: 'end' }
    return { type: 'char', fits: exactly(char.codePointAt(0) ?? 0) }
  }
  const group = (): PatternTree => {
    at++
    if (takes('?') && !takes(':')) wrong('looking ahead or behind, names and flags of groups are not known here')
    if (++depth > LIMITS.nestingMax) wrong('groups are nested too deep')
    const inside = alternatives()
    depth--
    mustTake(')', 'a group')
    return inside
  }
  const escaped = (): PatternTree => {
    const place = AT[chars[at + 1] ?? '']
    if (place !== undefined) {
      at += 2
      return { type: 'at', what: place }
    }
    const one = escape()
    return { type: 'char', fits: typeof one === 'number' ? exactly(one) : one }
  }
  /** What an escape stands for: a character, or a class of them. */
  const escape = (): number | Fits => {
    at++
    const char = chars[at] ?? wrong('\\ stands for nothing')
    const known = CLASSES[char]
    if (known) {
      at++
      return known
    }
    if (char === 'x' || char === 'u') {
      const digits = char === 'x' ? 2 : 4
      const code = chars.slice(at + 1, at + 1 + digits).join('')
      if (!new RegExp(`^[0-9A-Fa-f]{${digits}}$`).test(code)) wrong(`\\${char} needs ${digits} hexadecimal digits`)
      at += 1 + digits
      return parseInt(code, 16)
    }
    if (/^[1-9k]$/.test(char)) wrong('a group cannot be referred to here')
    const control = CONTROLS[char]
    if (control === undefined && /^[A-Za-z0-9]$/.test(char)) wrong(`\\${char} has no meaning here`)
    at++
    return control ?? char.codePointAt(0) ?? 0
  }
  const charClass = (): Fits => {
    at++
    const isNegated = takes('^')
    const of: Fits[] = []
    while (at < chars.length && chars[at] !== ']') {
      const low = member()
      if (chars[at] !== '-' || chars[at + 1] === ']' || at + 1 >= chars.length) {
        of.push(typeof low === 'number' ? exactly(low) : low)
        continue
      }
      at++
      const high = member()
      if (typeof low !== 'number' || typeof high !== 'number')
        return wrong('a class of characters is no end of a range')
      if (high < low) wrong('a range ends below its beginning')
      of.push((code) => code >= low && code <= high)
    }
    if (of.length === 0) wrong('a class has nothing in it')
    mustTake(']', 'a class')
    const fits: Fits = (code) => of.some((one) => one(code))
    return isNegated ? not(fits) : fits
  }
  const member = (): number | Fits => {
    if (chars[at] === '\\') {
      if (chars[at + 1] === 'b') wrong('\\b has no meaning in a class')
      return escape()
    }
    if (chars[at] === '[') wrong('write \\[ for the character')
    return (chars[at++] ?? '').codePointAt(0) ?? 0
  }

  try {
    if (chars.length === 0) return { kind: 'wrong', message: 'is empty' }
    const tree = alternatives()
    if (at < chars.length) wrong('a group is closed that was not opened')
    return { kind: 'read', tree }
  } catch (error) {
    if (error instanceof Wrong) return { kind: 'wrong', message: error.message }
    throw error
  }
}
