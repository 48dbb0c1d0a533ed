import { assert } from '../../base/assert.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { asText, fillHeaders, fillJson, fillUrl } from './fill-templates.ts'
import { decodeText, parseJson } from './read-answer.ts'
import {
  type Answer,
  charsetOf,
  isJson,
  meaningOf,
  placeOf,
  refusedBy,
  sendRequest,
  type Wish,
} from './send-request.ts'
import type { ToolAuth } from './tool-auth.ts'
import type { ToolDriver } from './tool-driver.ts'

type HttpBlock = NonNullable<ToolSpec['http']>

/** A request that the manifest describes. */
export const createHttpDriver = (auth: ToolAuth): ToolDriver => ({
  async call(spec, envelope, env) {
    const { http } = spec
    assert(http, 'an http tool has its block')
    const sent = await sendRequest(requestOf(http, envelope.input), { spec, envelope, env, auth })
    if ('failed' in sent) return sent.failed
    const meaning = meaningOf(sent.answer.status, http.statuses)
    if (meaning !== 'ok') return refusedBy(sent.answer, meaning, env.clock.now())
    return { ok: true, output: readBody(sent.answer, http.response) }
  },
})

function requestOf(http: HttpBlock, input: JsonObject): Wish {
  const { method, url, query, headers, body, bodyAs } = http
  const filled = fillHeaders(headers, input)
  const wish = { method, url: fillUrl(url, query ?? {}, input) }
  if (method === 'GET' || method === 'HEAD') return { ...wish, headers: filled, body: null }
  const value = body === undefined ? input : fillJson(body, input)
  const written = writeBody(value, bodyAs)
  return { ...wish, headers: { 'content-type': written.type, ...filled }, body: written.text }
}

function writeBody(value: Json, form: HttpBlock['bodyAs']): { type: string; text: string } {
  if (form === 'json') return { type: 'application/json', text: JSON.stringify(value) }
  if (form === 'text') return { type: 'text/plain; charset=utf-8', text: asText(value, 'the body') }
  if (!isObject(value))
    throw new Failure('tool.invalid_input', 'the body must be a map: each entry is a field of the form')
  const fields = new URLSearchParams()
  for (const [name, entry] of Object.entries(value))
    for (const one of Array.isArray(entry) ? entry : [entry])
      if (one !== null) fields.append(name, asText(one, `the field ${name}`))
  return { type: 'application/x-www-form-urlencoded', text: fields.toString() }
}

/** The body in the form that the tool is said to answer in. Nothing at all is null. */
export function readBody(answer: Answer, form: HttpBlock['response']): Json {
  const what = `the answer of ${placeOf(answer.url)}`
  const { headers, bytes, status } = answer
  const asJson = form === 'json' || (form !== 'text' && isJson(headers))
  if (form === 'whole') return { status, headers: { ...headers }, body: readBody(answer, 'auto') }
  if (bytes.length === 0 && form !== 'text') return null
  const text = decodeText(bytes, what, asJson ? 'utf-8' : charsetOf(headers))
  return asJson ? parseJson(text, what) : text
}
