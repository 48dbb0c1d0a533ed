/** Server-sent events: one frame out, frames in. */
export interface SseFrame {
  id?: string
  event: string
  data: string
}

/** Keeps the stream open through proxies; clients ignore it. */
export const SSE_COMMENT = ': alive\n\n'

export function encodeSse(frame: SseFrame): string {
  const id = frame.id === undefined ? '' : `id: ${frame.id}\n`
  const data = frame.data
    .split(/\r\n|\r|\n/)
    .map((line) => `data: ${line}\n`)
    .join('')
  return `${id}event: ${frame.event}\n${data}\n`
}

/** Takes text as it arrives and gives the frames that are whole; what was cut off in the middle is never given. */
export class SseParser {
  #rest = ''
  #id: string | undefined
  #event = 'message'
  #data: string[] = []

  push(chunk: string): SseFrame[] {
    const frames: SseFrame[] = []
    const text = this.#rest + chunk
    let start = 0
    for (;;) {
      const end = nextLineEnd(text, start)
      if (end === null) break
      const frame = this.#line(text.slice(start, end.at))
      if (frame) frames.push(frame)
      start = end.next
    }
    this.#rest = text.slice(start)
    return frames
  }

  #line(line: string): SseFrame | null {
    if (line === '') {
      const frame = {
        ...(this.#id === undefined ? {} : { id: this.#id }),
        event: this.#event,
        data: this.#data.join('\n'),
      }
      const empty = this.#data.length === 0
      this.#id = undefined
      this.#event = 'message'
      this.#data = []
      return empty ? null : frame
    }
    const colon = line.indexOf(':')
    if (colon === 0) return null
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'id' && !value.includes('\0')) this.#id = value
    else if (field === 'event') this.#event = value
    else if (field === 'data') this.#data.push(value)
    return null
  }
}

/** Where the line that begins at `start` ends; null while it may still go on. A CR at the very end may be half a CRLF. */
function nextLineEnd(text: string, start: number): { at: number; next: number } | null {
  for (let i = start; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (c === 10) return { at: i, next: i + 1 }
    if (c === 13) {
      if (i + 1 === text.length) return null
      return { at: i, next: text.charCodeAt(i + 1) === 10 ? i + 2 : i + 1 }
    }
  }
  return null
}
