/** What a terminal shows: a grid of cells that text and escape sequences change. Knows the sequences that our program writes. */

export interface Style {
  /** 0 to 15 of the palette; null: the terminal's own. */
  colour: number | null
  isBold: boolean
  isDim: boolean
}

interface Cell {
  text: string
  style: Style
}

/** Text of one style within a row. */
export interface Span {
  column: number
  text: string
  style: Style
}

const PLAIN: Style = { colour: null, isBold: false, isDim: false }
const BLANK: Cell = { text: ' ', style: PLAIN }

/** CSI sequences, other escapes, control characters, or text up to the next of them. */
const TOKEN =
  // oxlint-disable-next-line no-control-regex -- they are what a terminal is told with
  /\x1b\[([?\d;]*)([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>78]|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f\x1b]+/g

export class TerminalScreen {
  readonly columns: number
  readonly rows: number
  #grid: Cell[][]
  #row = 0
  #column = 0
  #style: Style = PLAIN

  constructor(columns: number, rows: number) {
    this.columns = columns
    this.rows = rows
    this.#grid = Array.from({ length: rows }, () => [])
  }

  write(data: string): void {
    for (const [token, parameters = '', final] of data.matchAll(TOKEN)) {
      if (final !== undefined) this.#control(final, parameters)
      else if (token === '\n') this.#down()
      else if (token === '\r') this.#column = 0
      else if (token === '\b') this.#column = Math.max(0, this.#column - 1)
      else if (token === '\t') this.#column = Math.min(this.columns - 1, (Math.floor(this.#column / 8) + 1) * 8)
      else if (token >= ' ') this.#print(token)
    }
  }

  /** Rows as they are now, blanks at their ends left out. */
  spans(): Span[][] {
    return this.#grid.map((cells) => {
      const spans: Span[] = []
      for (const [column, { text, style }] of cells.entries()) {
        const last = spans.at(-1)
        if (last && isSame(last.style, style)) last.text += text
        else spans.push({ column, text, style })
      }
      const end = spans.at(-1)
      if (end) end.text = end.text.trimEnd()
      return spans.filter((span) => span.text.trim() !== '')
    })
  }

  #print(text: string): void {
    for (const one of text) {
      if (this.#column >= this.columns) {
        this.#column = 0
        this.#down()
      }
      const cells = this.#grid[this.#row] ?? []
      while (cells.length < this.#column) cells.push(BLANK)
      cells[this.#column++] = { text: one, style: this.#style }
    }
  }

  #down(): void {
    if (this.#row < this.rows - 1) this.#row++
    else this.#grid = [...this.#grid.slice(1), []]
  }

  #control(final: string, parameters: string): void {
    const [first = 0] = parameters.split(';').map(Number)
    const by = Math.max(1, first || 1)
    if (final === 'm') this.#paint(parameters)
    else if (final === 'A') this.#row = Math.max(0, this.#row - by)
    else if (final === 'B') this.#row = Math.min(this.rows - 1, this.#row + by)
    else if (final === 'C') this.#column = Math.min(this.columns - 1, this.#column + by)
    else if (final === 'D') this.#column = Math.max(0, this.#column - by)
    else if (final === 'G') this.#column = by - 1
    else if (final === 'H') {
      const [row = 1, column = 1] = parameters.split(';').map((text) => Number(text) || 1)
      this.#row = Math.min(this.rows, row) - 1
      this.#column = Math.min(this.columns, column) - 1
    } else if (final === 'K') this.#eraseRow(first)
    else if (final === 'J') this.#eraseScreen(first)
  }

  #eraseRow(which: number): void {
    const cells = this.#grid[this.#row] ?? []
    if (which === 2) cells.length = 0
    else if (which === 0) cells.length = Math.min(cells.length, this.#column)
    else for (let i = 0; i <= this.#column && i < cells.length; i++) cells[i] = BLANK
  }

  #eraseScreen(which: number): void {
    if (which >= 2) this.#grid = this.#grid.map(() => [])
    else if (which === 0) {
      this.#eraseRow(0)
      for (let row = this.#row + 1; row < this.rows; row++) this.#grid[row] = []
    }
  }

  #paint(parameters: string): void {
    for (const code of parameters.split(';').map(Number)) {
      const style = this.#style
      if (code === 0) this.#style = PLAIN
      else if (code === 1) this.#style = { ...style, isBold: true }
      else if (code === 2) this.#style = { ...style, isDim: true }
      else if (code === 22) this.#style = { ...style, isBold: false, isDim: false }
      else if (code === 39) this.#style = { ...style, colour: null }
      else if (code >= 30 && code <= 37) this.#style = { ...style, colour: code - 30 }
      else if (code >= 90 && code <= 97) this.#style = { ...style, colour: code - 82 }
    }
  }
}

const isSame = (a: Style, b: Style): boolean => a.colour === b.colour && a.isBold === b.isBold && a.isDim === b.isDim
