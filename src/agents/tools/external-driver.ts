import { assert } from '../../base/assert.ts'
import { fillHeaders, fillUrl } from './fill-templates.ts'
import { decodeText, parseJson } from './read-answer.ts'
import { readResult } from './read-result.ts'
import { isJson, meaningOf, placeOf, refusedBy, sendRequest } from './send-request.ts'
import type { ToolAuth } from './tool-auth.ts'
import type { ToolDriver } from './tool-driver.ts'

/** Somebody who is handed the whole call, and answers with a result, whatever the status of the answer is. */
export const createExternalDriver = (auth: ToolAuth): ToolDriver => ({
  async call(spec, envelope, env) {
    const { external } = spec
    assert(external, 'an external tool has its block')
    const url = fillUrl(external.url, {}, envelope.input)
    const headers = { 'content-type': 'application/json', ...fillHeaders(external.headers, envelope.input) }
    const body = JSON.stringify(envelope)
    const sent = await sendRequest({ method: 'POST', url, headers, body }, { spec, envelope, env, auth })
    if ('failed' in sent) return sent.failed
    const { answer } = sent
    const meaning = meaningOf(answer.status)
    const what = `the answer of ${placeOf(url)}`
    if (meaning === 'ok') return readResult(parseJson(decodeText(answer.bytes, what), what), what)
    const refused = refusedBy(answer, meaning, env.clock.now())
    if (!isJson(answer.headers)) return refused
    try {
      const result = readResult(parseJson(decodeText(answer.bytes, what), what), what)
      return result.ok ? refused : { ...refused, ...result }
    } catch {
      return refused
    }
  },
})
