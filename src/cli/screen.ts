import type { CliDeps } from './deps.ts'
import { type Line, paint } from './terminal-text.ts'

type ScreenDeps = Pick<CliDeps, 'stdout' | 'colour'>

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'

/** Lines that are drawn over the ones before. Writes nothing when nothing changed. */
export class Screen {
  readonly #deps: ScreenDeps
  #last = ''
  #height = 0
  #isCursorHidden = false

  constructor(deps: ScreenDeps) {
    this.#deps = deps
  }

  draw(lines: Line[]): void {
    const painted = lines.map((line) => paint(line, { colour: this.#deps.colour }))
    const frame = painted.map((line) => `${line}\x1b[K\n`).join('')
    if (frame === this.#last) return
    this.#deps.stdout.write(`${this.#isCursorHidden ? '' : HIDE_CURSOR}${this.#up}${frame}\x1b[J`)
    this.#isCursorHidden = true
    this.#last = frame
    this.#height = lines.length
  }

  /** Writes lines that stay where they are; what is drawn next comes below them. */
  above(lines: Line[]): void {
    const text = lines.map((line) => `${paint(line, { colour: this.#deps.colour })}\x1b[K\n`).join('')
    this.#deps.stdout.write(`${this.#up}${text}\x1b[J`)
    this.#last = ''
    this.#height = 0
  }

  /** Leads to the first line of what was drawn. */
  get #up(): string {
    return this.#height > 0 ? `\x1b[${this.#height}A\r` : ''
  }

  close(): void {
    if (this.#isCursorHidden) this.#deps.stdout.write(SHOW_CURSOR)
    this.#isCursorHidden = false
    this.#height = 0
  }
}
