import type { ShownEvent } from '../agents/index.ts'
import type { Clock } from '../base/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Attempt, PendingReport } from './attempt.ts'
import { LogShipping, type MakeReport } from './log-shipping.ts'
import { boundText } from './to-json.ts'

/** Text of an answer gathers so long, or to so many characters, before it is a line of the log. */
const GATHER_MS = 250
const GATHER_CHARS = 4_096
/** So long lines gather: an agent that is quick would else cost a report each time it does something, and nobody reads as fast. */
const LINES_MS = 100
/** Longest line: what is longer is told in the journal. */
const LINE_CHARS = 8_192

/** What an agent does as the log of its attempt: a JSON object a line, in the stream `agent`. What comes faster than it can be sent is counted and dropped. */
export class AgentLog {
  readonly #clock: Clock
  readonly #logs: LogShipping
  #answer = ''
  #answerAt = 0
  #lines = ''
  #linesAt = 0

  constructor(attempt: Attempt, deps: { clock: Clock; makeReport: MakeReport }) {
    this.#clock = deps.clock
    this.#logs = new LogShipping(attempt, deps.makeReport)
  }

  show(event: ShownEvent): void {
    if (event.type !== 'text') {
      this.#endAnswer()
      this.#line(lineOf(event))
      return
    }
    if (this.#answer === '') this.#answerAt = this.#clock.monotonic()
    this.#answer += event.text
    while (this.#answer.length >= GATHER_CHARS) this.#endAnswer(GATHER_CHARS)
  }

  /** Called now and then: gives out what has gathered long enough. */
  refresh(): void {
    const now = this.#clock.monotonic()
    const hasText = this.#answer !== '' && now - this.#answerAt >= GATHER_MS
    if (hasText) this.#endAnswer()
    if (hasText || now - this.#linesAt >= LINES_MS) this.#flush()
  }

  acked(report: PendingReport): void {
    this.#logs.acked(report)
  }

  finish(): void {
    this.#endAnswer()
    this.#flush()
    this.#logs.finish(this.#clock.monotonic())
  }

  close(): void {
    this.#logs.close()
  }

  #endAnswer(chars = this.#answer.length): void {
    if (this.#answer === '') return
    const text = this.#answer.slice(0, chars)
    this.#answer = this.#answer.slice(chars)
    this.#answerAt = this.#clock.monotonic()
    this.#line(JSON.stringify({ type: 'text', text }))
  }

  #line(text: string): void {
    if (this.#logs.full) {
      this.#logs.drop(text.length + 1)
      return
    }
    if (this.#lines === '') this.#linesAt = this.#clock.monotonic()
    this.#lines += `${text}\n`
    if (this.#lines.length * 3 > LIMITS.logSegmentBytes) this.#flush()
  }

  #flush(): void {
    if (this.#lines === '') return
    const text = this.#lines
    this.#lines = ''
    this.#logs.add({ index: this.#logs.lastIndex + 1, stream: 'agent', at: this.#linesAt, text })
  }
}

/** One event as one line. A large input of a tool is shown by its beginning. */
function lineOf(event: ShownEvent): string {
  const line = JSON.stringify(event)
  if (line.length <= LINE_CHARS) return line
  if (event.type === 'tool') {
    const input = boundText(JSON.stringify(event.input), LINE_CHARS / 4)
    return JSON.stringify({ type: event.type, call: event.call, tool: event.tool, cut: input })
  }
  return JSON.stringify({ type: event.type, cut: boundText(line, LINE_CHARS / 4) })
}
