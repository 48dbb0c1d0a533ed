import type { Json, JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import { evaluateTemplate, parseTemplate } from '../../domain/template.ts'

/** Fills in what a call is made with. What cannot be filled in is the caller's mistake: all of these throw `tool.invalid_input`. */
export function fillJson(template: Json, input: JsonObject): Json {
  try {
    return evaluateTemplate(template, { inputs: input, steps: {}, run: NO_RUN })
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause
    throw new Failure('tool.invalid_input', cause.message, cause.evidence ? { evidence: cause.evidence } : {})
  }
}

/** Tools know what they are called with alone; the checks of the kind refuse templates that read anything else. */
const NO_RUN = { id: '', workflow: '', namespace: '' }

/** A text; null where the template gives null. */
export function fillText(template: string, input: JsonObject, what: string): string | null {
  const value = fillJson(template, input)
  return value === null ? null : asText(value, what)
}

export function asText(value: Json, what: string): string {
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Failure('tool.invalid_input', `${what} must be a text, a number or true or false`)
}

/**
 * An address in which each value is one part of a path or of a query, whatever characters it has: it leads nowhere else than the template does.
 * `query` is put behind it.
 */
export function fillUrl(template: string, query: Record<string, string>, input: JsonObject): string {
  let url = ''
  const filled: { from: number; to: number }[] = []
  for (const part of parseTemplate(template).parts) {
    if (part.kind === 'text') {
      url += part.text
      continue
    }
    const from = url.length
    url += encode(asText(fillJson(`\${{ ${part.source} }}`, input), `\${{ ${part.source} }} of the address`))
    filled.push({ from, to: url.length })
  }
  refuseLostSegments(url, filled)
  const parameters = Object.entries(query).flatMap(([name, text]) => {
    const value = fillJson(text, input)
    const values = value === null ? [] : Array.isArray(value) ? value : [value]
    return values.map((entry) => `${encode(name)}=${encode(asText(entry, `the parameter ${name}`))}`)
  })
  return parameters.length === 0 ? url : `${url}${url.includes('?') ? '&' : '?'}${parameters.join('&')}`
}

function encode(text: string): string {
  try {
    return encodeURIComponent(text)
  } catch {
    throw new Failure('tool.invalid_input', 'a value of the address has half a character in it')
  }
}

/** A part of a path that is nothing, `.` or `..` would call another place: `DELETE /users/` instead of one user. */
function refuseLostSegments(url: string, filled: readonly { from: number; to: number }[]): void {
  const pathFrom = url.indexOf('/', url.indexOf('://') + 3)
  if (pathFrom < 0) return
  const queryFrom = url.indexOf('?')
  let from = pathFrom + 1
  for (const segment of url.slice(from, queryFrom < 0 ? url.length : queryFrom).split('/')) {
    const to = from + segment.length
    const isFilled = filled.some((range) => range.from >= from && range.to <= to)
    if (isFilled && ['', '.', '..'].includes(segment))
      throw new Failure('tool.invalid_input', `a value would make ${JSON.stringify(segment)} of a part of the address`)
    from = to + 1
  }
}

/** Headers without those whose value is null. */
export function fillHeaders(templates: Record<string, string> | undefined, input: JsonObject): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, template] of Object.entries(templates ?? {})) {
    const value = fillText(template, input, `the header ${name}`)
    if (value === null) continue
    // oxlint-disable-next-line no-control-regex -- that is what is looked for
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value))
      throw new Failure('tool.invalid_input', `the header ${name} would have characters that no header takes`)
    headers[name.toLowerCase()] = value
  }
  return headers
}
