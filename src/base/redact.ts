/** What stands where a secret value stood. */
export const REDACTED = '[secret]'

/** Values shorter than this are not looked for: they would be found in half of all text. */
export const REDACT_CHARS_MIN = 4
/** Lines of a value of several lines are looked for on their own from this length on. */
const LINE_CHARS_MIN = 12
/** A longer form is looked for in pieces of this length, so that a stream never holds back more. */
export const FORM_CHARS_MAX = 4_096
/** Widths at which the usual tools break base64. */
const BASE64_WIDTHS = [64, 76]

/**
 * Takes known secret values out of text, in every form in which tools print them: plain, JSON-escaped, URL-encoded, hexadecimal, and
 * base64 (either alphabet) at any place of what was encoded. What belongs to no form is left as it is.
 */
export class Redactor {
  readonly #forms: readonly string[]

  constructor(values: Iterable<string>) {
    const forms = new Set<string>()
    for (const value of values) for (const form of formsOf(value)) forms.add(form)
    this.#forms = [...forms]
  }

  /** Nothing to look for. */
  get isIdle(): boolean {
    return this.#forms.length === 0
  }

  text(text: string): string {
    const found = mergedSpans(this.#spansIn(text))
    return found.length === 0 ? text : cutOut(text, found)
  }

  /** A value of JSON without secrets in its texts, names and numbers. The same object when there is none. */
  json<T>(value: T): T {
    return this.isIdle ? value : (this.#deep(value) as T) // JSON stays JSON of the same shape; numbers may become text
  }

  stream(): RedactedStream {
    return new RedactedStream(this.#forms, (text) => this.#spansIn(text))
  }

  #deep(value: unknown): unknown {
    if (typeof value === 'string') return this.text(value)
    if (typeof value === 'number') return this.text(String(value)) === String(value) ? value : REDACTED
    if (Array.isArray(value)) return value.map((entry) => this.#deep(entry))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [this.text(key), this.#deep(entry)]))
  }

  #spansIn(text: string): Span[] {
    const spans: Span[] = []
    for (const form of this.#forms)
      for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) spans.push([at, at + form.length])
    return spans
  }
}

/** From and up to. */
type Span = [start: number, end: number]

/** Spans in order; those that overlap or touch are one, so that what two secrets share is gone as well. */
function mergedSpans(spans: Span[]): Span[] {
  if (spans.length < 2) return spans
  const merged: Span[] = []
  for (const [start, end] of spans.toSorted((a, b) => a[0] - b[0])) {
    const last = merged.at(-1)
    if (last && start <= last[1]) last[1] = Math.max(last[1], end)
    else merged.push([start, end])
  }
  return merged
}

function cutOut(text: string, spans: readonly Span[]): string {
  let out = ''
  let from = 0
  for (const [start, end] of spans) {
    out += text.slice(from, start) + REDACTED
    from = end
  }
  return out + text.slice(from)
}

/**
 * Redacts text that comes in pieces, as if it had come whole. Holds back only an end that may be the beginning of a form, so at most
 * FORM_CHARS_MAX characters.
 */
export class RedactedStream {
  readonly #forms: readonly string[]
  readonly #spansIn: (text: string) => Span[]
  #held = ''
  /** So many characters of what is held belong to a secret already. */
  #covered = 0
  /** What was given out last is a mark, and a secret that goes on needs no second one. */
  #isMarked = false

  constructor(forms: readonly string[], spansIn: (text: string) => Span[]) {
    this.#forms = forms
    this.#spansIn = spansIn
  }

  /** What may be given out now. */
  push(text: string): string {
    const whole = this.#held + text
    return this.#give(whole, this.#startOfPart(whole))
  }

  /** The rest, when nothing more comes. */
  end(): string {
    return this.#give(this.#held, this.#held.length)
  }

  /** Gives out `whole` up to `upTo` and holds the rest. */
  #give(whole: string, upTo: number): string {
    if (upTo === 0) {
      this.#held = whole
      return ''
    }
    const spans = this.#spansIn(whole)
    if (this.#covered > 0) spans.push([0, this.#covered])
    let out = ''
    let from = 0
    let covered = 0
    for (const [start, end] of mergedSpans(spans)) {
      if (start >= upTo) break
      const goesOn = start === 0 && this.#isMarked
      out += whole.slice(from, start) + (goesOn ? '' : REDACTED)
      from = Math.min(end, upTo)
      covered = Math.max(0, end - upTo)
    }
    out += whole.slice(from, upTo)
    this.#isMarked = from === upTo
    this.#held = whole.slice(upTo)
    this.#covered = covered
    return out
  }

  /** Where the longest end of `text` begins that is the beginning of a form and not all of it. */
  #startOfPart(text: string): number {
    let start = text.length
    for (const form of this.#forms) {
      const first = form.charAt(0)
      let at = text.indexOf(first, Math.max(0, text.length - form.length + 1))
      for (; at >= 0 && at < start; at = text.indexOf(first, at + 1)) if (form.startsWith(text.slice(at))) start = at
    }
    return start
  }
}

/** Every text by which a value may show itself. */
function formsOf(value: string): Set<string> {
  const forms = new Set<string>()
  const add = (form: string): void => {
    if (form.length < REDACT_CHARS_MIN) return
    for (let at = 0; at + FORM_CHARS_MAX < form.length; at += FORM_CHARS_MAX)
      forms.add(form.slice(at, at + FORM_CHARS_MAX))
    // Of a long one the last piece overlaps the one before.
    forms.add(form.slice(-FORM_CHARS_MAX))
  }
  for (const whole of new Set([value, value.trim()])) {
    if (whole.length < REDACT_CHARS_MIN) continue
    for (const form of [whole, ...escapedForms(whole), ...urlForms(whole), ...binaryForms(Buffer.from(whole))])
      add(form)
  }
  const lines = value.split(/\r?\n/)
  if (lines.length < 2) return forms
  for (const line of lines.map((text) => text.trim())) {
    // The frame of a PEM text is no secret.
    if (line.length < LINE_CHARS_MIN || /^-{5}.*-{5}$/.test(line)) continue
    for (const form of [line, ...escapedForms(line)]) add(form)
  }
  return forms
}

function escapedForms(text: string): string[] {
  const json = JSON.stringify(text).slice(1, -1)
  const ascii = json.replaceAll(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return [json, ascii, json.replaceAll('/', '\\/')]
}

function urlForms(text: string): string[] {
  if (!text.isWellFormed()) return []
  const component = encodeURIComponent(text)
  const strict = component.replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const forms = [component, strict]
  // Paths keep their slashes; forms write a blank as plus.
  for (const form of [...forms]) forms.push(form.replaceAll('%2F', '/'), form.replaceAll('%20', '+'))
  forms.push(strict.replaceAll('%2A', '*').replaceAll('%20', '+'))
  return forms.flatMap((form) => [form, form.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())])
}

function binaryForms(bytes: Buffer): string[] {
  const hex = bytes.toString('hex')
  const forms = [hex, hex.toUpperCase()]
  for (const alphabet of ['base64', 'base64url'] as const) {
    const whole = bytes.toString(alphabet)
    forms.push(whole, whole.replaceAll('=', ''))
    for (const before of [0, 1, 2]) forms.push(innerBase64(bytes, before, alphabet))
    for (const width of BASE64_WIDTHS) {
      if (whole.length <= width) continue
      for (let at = 0; at < whole.length; at += width) {
        const line = whole.slice(at, at + width)
        if (line.length >= LINE_CHARS_MIN) forms.push(line)
      }
    }
  }
  return forms
}

/** The characters of base64 that these bytes alone decide when so many others stand before them. */
function innerBase64(bytes: Buffer, before: number, alphabet: 'base64' | 'base64url'): string {
  const text = Buffer.concat([Buffer.alloc(before), bytes]).toString(alphabet)
  const firstBit = before * 8
  const lastBit = (before + bytes.length) * 8
  return text.slice(Math.ceil(firstBit / 6), Math.floor(lastBit / 6))
}
