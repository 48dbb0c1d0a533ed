import type { Recording } from './recording.ts'
import { type Span, TerminalScreen } from './screen.ts'

/** Two frames are never closer than this, and nothing is waited for longer than that. */
const FRAME_MS = 90
const PAUSE_MAX_MS = 1_200
/** How long the last frame stands before it begins again. */
const HOLD_MS = 8_000
const TYPE_MS = 55

const CELL = { width: 8.4, height: 18 }
const EDGE = { side: 16, top: 42, bottom: 14 }
/** The window brings its own background, so that it reads alike on light pages and dark ones. */
const WINDOW = { back: '#161b22', bar: '#21262d', edge: '#30363d', text: '#e6edf3', dim: '#9aa4ae' }
const PALETTE = [
  ...['#6e7681', '#ff7b72', '#56d364', '#e3b341', '#79c0ff', '#d2a8ff', '#56d4dd', '#e6edf3'],
  ...['#8b949e', '#ffa198', '#7ee787', '#f2cc60', '#a5d6ff', '#e2c5ff', '#b3f0ff', '#ffffff'],
]

interface Frame {
  atMs: number
  rows: Span[][]
}

/** An animated SVG of a recording: the same recording gives the same text. */
export function drawRecording(recording: Recording, title: string): string {
  const { frames, lastMs } = framesOf(recording)
  const used = Math.max(...frames.flatMap((frame) => frame.rows.map((row, i) => (row.length > 0 ? i + 1 : 0))))
  const width = Math.round(recording.columns * CELL.width + EDGE.side * 2)
  const height = used * CELL.height + EDGE.top + EDGE.bottom
  const totalMs = lastMs + HOLD_MS
  const lines = new Map<string, string>()
  const groups = frames.map((frame, i) => {
    const uses = frame.rows.slice(0, used).flatMap((row, n) => {
      const text = rowText(row)
      if (text === '') return []
      const id = lines.get(text) ?? `l${lines.size}`
      lines.set(text, id)
      return [`<use href="#${id}" y="${n * CELL.height}"/>`]
    })
    return `<g class="f f${i}">${uses.join('')}</g>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t">`,
    `<title id="t">${escaped(title)}</title>`,
    `<style>${styleOf(frames, totalMs)}</style>`,
    `<defs>${[...lines].map(([text, id]) => `<g id="${id}">${text}</g>`).join('\n')}</defs>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8" fill="${WINDOW.back}" stroke="${WINDOW.edge}"/>`,
    `<path d="M0.5 28.5V8.5a8 8 0 0 1 8-8H${width - 8.5}a8 8 0 0 1 8 8V28.5Z" fill="${WINDOW.bar}" stroke="${WINDOW.edge}"/>`,
    ...['#ff5f57', '#febc2e', '#28c840'].map((c, i) => `<circle cx="${18 + i * 18}" cy="14.5" r="5.5" fill="${c}"/>`),
    `<g transform="translate(${EDGE.side} ${EDGE.top + 4})">`,
    ...groups,
    '</g>',
    '</svg>',
    '',
  ].join('\n')
}

/** The screen at each moment at which it differs, the typed command before all. */
function framesOf({ command, columns, rows, output }: Recording): { frames: Frame[]; lastMs: number } {
  const screen = new TerminalScreen(columns, rows)
  const frames: Frame[] = []
  const show = (atMs: number) => {
    const frame = { atMs, rows: screen.spans() }
    const last = frames.at(-1)
    if (last && JSON.stringify(last.rows) === JSON.stringify(frame.rows)) return
    if (last && atMs - last.atMs < FRAME_MS) frames.pop()
    frames.push(last && atMs - last.atMs < FRAME_MS ? { ...frame, atMs: last.atMs } : frame)
  }
  screen.write('\x1b[32m$\x1b[39m ')
  let atMs = 0
  show(atMs)
  for (const one of command) {
    screen.write(one)
    atMs += TYPE_MS
    show(atMs)
  }
  screen.write('\r\n')
  for (const [afterMs, text] of output) {
    atMs += Math.min(afterMs, PAUSE_MAX_MS)
    screen.write(text)
    show(atMs)
  }
  return { frames, lastMs: atMs }
}

function rowText(row: Span[]): string {
  const spans = row.map(({ column, text, style }) => {
    const classes = [
      ...(style.colour === null ? [] : [`c${style.colour}`]),
      ...(style.isBold ? ['b'] : []),
      ...(style.isDim ? ['d'] : []),
    ]
    // The width is said as well: the reader's font may be a little wider than ours.
    const shape = `x="${round(column * CELL.width)}" textLength="${round([...text].length * CELL.width)}"`
    const kind = classes.length > 0 ? ` class="${classes.join(' ')}"` : ''
    return `<tspan ${shape}${kind}>${escaped(text)}</tspan>`
  })
  return spans.length === 0 ? '' : `<text y="12">${spans.join('')}</text>`
}

function styleOf(frames: Frame[], totalMs: number): string {
  const percent = (ms: number) => `${round((ms / totalMs) * 100)}%`
  const rules = frames.flatMap(({ atMs }, i) => {
    const until = frames[i + 1]?.atMs ?? totalMs
    const hidden = i === 0 ? '' : `0%{visibility:hidden}`
    const end = i === frames.length - 1 ? '' : `${percent(until)}{visibility:hidden}`
    return [`@keyframes k${i}{${hidden}${percent(atMs)}{visibility:visible}${end}}`, `.f${i}{animation-name:k${i}}`]
  })
  const palette = PALETTE.map((colour, i) => `.c${i}{fill:${colour}}`)
  return [
    `text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace;fill:${WINDOW.text};white-space:pre}`,
    `.b{font-weight:700}.d{fill:${WINDOW.dim}}`,
    ...palette,
    `.f{visibility:hidden;animation-duration:${totalMs}ms;animation-iteration-count:infinite;animation-timing-function:step-end}`,
    ...rules,
    // Whoever asked for no motion, or shows none, sees how it ended.
    `.f${frames.length - 1}{visibility:visible}`,
    '@media (prefers-reduced-motion:reduce){.f{animation:none}}',
  ].join('\n')
}

const round = (value: number): string => String(Math.round(value * 100) / 100)
const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
