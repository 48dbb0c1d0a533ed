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

  constructor(deps: ScreenDeps) {
    this.#deps = deps
  }

  draw(lines: Line[]): void {
    const painted = lines.map((line) => paint(line, { colour: this.#deps.colour }))
    const frame = painted.map((line) => `${line}\x1b[K\n`).join('')
    if (frame === this.#last) return
    const up = this.#height > 0 ? `\x1b[${this.#height}A\r` : HIDE_CURSOR
    this.#deps.stdout.write(`${up}${frame}\x1b[J`)
    this.#last = frame
    this.#height = lines.length
  }

  close(): void {
    if (this.#height > 0) this.#deps.stdout.write(SHOW_CURSOR)
    this.#height = 0
  }
}
