import type { Terminal } from './deps.ts'
import type { Format } from './formats.ts'
import { type Cell, type Column, tableLines } from './table.ts'
import { fitLine, type Line, paint, span } from './terminal-text.ts'

export type Colours = 'auto' | 'always' | 'never'

/** How wide text is laid out when it goes to a file or a pipe. */
const PIPE_WIDTH = 120

/** What a command says: its result on one stream, remarks on the other. */
export class Output {
  readonly #deps: { stdout: Terminal; stderr: Terminal; colour: boolean }
  format: Format
  /** `--color`. */
  colours: Colours = 'auto'
  /** Texts that were read, by the name that problems give them: excerpts come from here. */
  readonly sources: Record<string, string> = {}
  /** Writes YAML; loaded when it was asked for, because most commands do without. */
  toYaml: ((value: unknown) => string) | null = null
  #values = 0

  constructor(deps: { stdout: Terminal; stderr: Terminal; colour: boolean }, options: { format: Format }) {
    this.#deps = deps
    this.format = options.format
  }

  /** Whether the result is for programs: data instead of text. */
  get isData(): boolean {
    return this.format === 'json' || this.format === 'yaml'
  }

  /** Columns to lay text out in. */
  get width(): number {
    return this.#deps.stdout.isTty ? Math.max(1, this.#deps.stdout.columns) : PIPE_WIDTH
  }

  /** Columns at which a table is cut; null when it is not looked at on a screen, or everything was asked for. */
  get tableWidth(): number | null {
    return this.#deps.stdout.isTty && this.format !== 'wide' ? this.width : null
  }

  #isColoured(stream: Terminal): boolean {
    return this.colours === 'always' || (this.colours === 'auto' && this.#deps.colour && stream.isTty)
  }

  print(...lines: (Line | string)[]): void {
    const colour = this.#isColoured(this.#deps.stdout)
    for (const line of lines) this.#deps.stdout.write(`${paint(toLine(line), { colour })}\n`)
  }

  /** A table, wide or not; with `-o name` what the column of names says, row by row. */
  printTable(columns: readonly Column[], rows: readonly Cell[][]): void {
    if (this.format === 'name') {
      const at = columns.findIndex((column) => column.isName)
      this.print(...rows.map((row) => row[at]?.text ?? ''))
    } else this.print(...tableLines(columns, rows, { width: this.tableWidth, wide: this.format === 'wide' }))
  }

  /** A value for programs: JSON on one line, or a document of YAML. */
  printData(value: unknown): void {
    if (this.format === 'yaml' && this.toYaml) {
      this.#deps.stdout.write(`${this.#values++ > 0 ? '---\n' : ''}${this.toYaml(plain(value))}`)
    } else this.printJson(value)
  }

  /** One JSON value on one line, whatever the format. */
  printJson(value: unknown): void {
    this.#deps.stdout.write(`${JSON.stringify(value)}\n`)
  }

  /** A remark for the person at the terminal; never part of the result. */
  remark(...lines: (Line | string)[]): void {
    const { stderr } = this.#deps
    const colour = this.#isColoured(stderr)
    for (const line of lines) {
      const fitted = stderr.isTty ? fitLine(toLine(line), Math.max(20, stderr.columns)) : toLine(line)
      stderr.write(`${paint(fitted, { colour })}\n`)
    }
  }
}

const toLine = (line: Line | string): Line => (typeof line === 'string' ? [span(line)] : line)

/** As JSON would have it: both formats say the same, and YAML needs no anchors for what occurs twice. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
