/** Text for a terminal: what it measures, how it is cut, coloured and made harmless. All pure. */

export type Style = 'good' | 'bad' | 'warn' | 'accent' | 'dim' | 'bold'

export interface Span {
  text: string
  style?: Style
}

/** One line, without its end. */
export type Line = Span[]

export const span = (text: string, style?: Style): Span => (style ? { text, style } : { text })

const SGR: Record<Style, [string, string]> = {
  good: ['\x1b[32m', '\x1b[39m'],
  bad: ['\x1b[31m', '\x1b[39m'],
  warn: ['\x1b[33m', '\x1b[39m'],
  accent: ['\x1b[36m', '\x1b[39m'],
  dim: ['\x1b[2m', '\x1b[22m'],
  bold: ['\x1b[1m', '\x1b[22m'],
}

/** The line as text, with colours when asked for; spaces at the end are left out. */
export function paint(line: Line, options: { colour: boolean }): string {
  if (!options.colour) return plainText(line).trimEnd()
  return line.map((s) => (s.style && s.text.trim() !== '' ? SGR[s.style].join(s.text) : s.text)).join('')
}

export const plainText = (line: Line): string => line.map((s) => s.text).join('')

const ZERO = /^[\p{Mn}\p{Me}\p{Cf}]$/u
const WIDE =
  /^(?:[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}])$/u
// eslint-disable-next-line no-control-regex -- finding control characters is the purpose
const NARROW = /^[\x20-\x7e]*$/

function charWidth(char: string): number {
  if (ZERO.test(char)) return 0
  return WIDE.test(char) ? 2 : 1
}

/** Columns that the text takes. */
export function displayWidth(text: string): number {
  if (NARROW.test(text)) return text.length
  let width = 0
  for (const char of text) width += charWidth(char)
  return width
}

/** The text cut to `width` columns, with `…` where something was left out. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text
  if (width <= 0) return ''
  let out = ''
  let used = 0
  for (const char of text) {
    const w = charWidth(char)
    if (used + w > width - 1) break
    out += char
    used += w
  }
  return `${out}…`
}

export function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - displayWidth(text)))
}

export function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - displayWidth(text))) + text
}

/** The line cut to `width` columns. */
export function fitLine(line: Line, width: number): Line {
  if (displayWidth(plainText(line)) <= width) return line
  const out: Line = []
  let left = width
  for (const part of line) {
    const w = displayWidth(part.text)
    if (w >= left) {
      // One column is kept for the mark, because there is more after this part.
      out.push({ ...part, text: w === left ? truncate(`${part.text} `, left) : truncate(part.text, left) })
      break
    }
    out.push(part)
    left -= w
  }
  return out
}

/** Words in lines of at most `width` columns; a longer word stays whole. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  for (const paragraph of text.split('\n')) {
    let line = ''
    for (const word of paragraph.split(' ')) {
      if (line !== '' && displayWidth(line) + 1 + displayWidth(word) > width) {
        lines.push(line)
        line = word
      } else line = line === '' ? word : `${line} ${word}`
    }
    lines.push(line)
  }
  return lines
}

// eslint-disable-next-line no-control-regex -- finding control characters is the purpose
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g
// eslint-disable-next-line no-control-regex -- finding control characters is the purpose
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g

/** Text from outside without what could drive the terminal: escape sequences go, other controls show as `�`. Keeps line ends. */
export function printable(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(ESCAPES, '').replaceAll('\t', '  ').replace(CONTROLS, '�')
}

/** `printable` on one line. */
export const printableLine = (text: string): string => printable(text).replaceAll('\n', ' ')
