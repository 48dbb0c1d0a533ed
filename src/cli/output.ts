import type { Terminal } from './deps.ts'
import { fitLine, type Line, paint, span } from './terminal-text.ts'

/** How wide text is laid out when it goes to a file or a pipe. */
const PIPE_WIDTH = 120

/** What a command says: its result on one stream, remarks on the other. */
export class Output {
  readonly #deps: { stdout: Terminal; stderr: Terminal; colour: boolean }
  readonly json: boolean
  /** Texts that were read, by the name that problems give them: excerpts come from here. */
  readonly sources: Record<string, string> = {}

  constructor(deps: { stdout: Terminal; stderr: Terminal; colour: boolean }, options: { json: boolean }) {
    this.#deps = deps
    this.json = options.json
  }

  /** Columns to lay text out in. */
  get width(): number {
    return this.#deps.stdout.isTty ? Math.max(1, this.#deps.stdout.columns) : PIPE_WIDTH
  }

  /** Columns at which a table is cut; null when it is not looked at on a screen. */
  get tableWidth(): number | null {
    return this.#deps.stdout.isTty ? this.width : null
  }

  print(...lines: (Line | string)[]): void {
    const colour = this.#deps.colour && this.#deps.stdout.isTty
    for (const line of lines) this.#deps.stdout.write(`${paint(toLine(line), { colour })}\n`)
  }

  /** One JSON value on one line. */
  printJson(value: unknown): void {
    this.#deps.stdout.write(`${JSON.stringify(value)}\n`)
  }

  /** A remark for the person at the terminal; never part of the result. */
  remark(...lines: (Line | string)[]): void {
    const { stderr } = this.#deps
    const colour = this.#deps.colour && stderr.isTty
    for (const line of lines) {
      const fitted = stderr.isTty ? fitLine(toLine(line), Math.max(20, stderr.columns)) : toLine(line)
      stderr.write(`${paint(fitted, { colour })}\n`)
    }
  }
}

const toLine = (line: Line | string): Line => (typeof line === 'string' ? [span(line)] : line)
