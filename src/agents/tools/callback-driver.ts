import { assert } from '../../base/assert.ts'
import type { Json } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { fillHeaders, fillJson, fillUrl } from './fill-templates.ts'
import { readBody } from './http-driver.ts'
import { resultOfFailure } from './result-of-failure.ts'
import {
  type Answer,
  isJson,
  meaningOf,
  placeOf,
  refusedBy,
  retryAfterMs,
  sendRequest,
  type Sent,
} from './send-request.ts'
import type { ToolAuth } from './tool-auth.ts'
import type { DriverEnv, ToolDriver, TryResult } from './tool-driver.ts'

type CallbackBlock = NonNullable<ToolSpec['callback']>

/** A request that may be answered with 202 and where to look for what comes of it. */
export const createCallbackDriver = (auth: ToolAuth): ToolDriver => ({
  async call(spec, envelope, env) {
    const { callback } = spec
    assert(callback, 'a callback tool has its block')
    const { input } = envelope
    const url = fillUrl(callback.url, {}, input)
    const own = fillHeaders(callback.headers, input)
    const body = JSON.stringify(callback.body === undefined ? input : fillJson(callback.body, input))
    const parts = { spec, envelope, env, auth }
    let sent = await sendRequest(
      { method: 'POST', url, headers: { 'content-type': 'application/json', ...own }, body },
      parts,
    )
    if ('failed' in sent) return sent.failed
    if (!isPending(sent.answer, callback)) return resultOf(sent.answer, env)
    let answer = sent.answer
    const place = placeIn(answer, callback)
    // The work is under way: what fails from here on is a look, and the call is not made again.
    for (let polls = 0; polls < callback.maxPolls; polls++) {
      await env.clock.sleep(retryAfterMs(answer.headers, env.clock.now()) ?? callback.interval, env.signal)
      sent = await look({ method: 'GET', url: place, headers: own, body: null, authorityOf: url }, parts)
      if (hasPassed(sent)) continue
      if ('failed' in sent) return underWay(sent.failed)
      answer = sent.answer
      if (!isPending(answer, callback)) return underWay(resultOf(answer, env))
    }
    return {
      ok: false,
      code: 'tool.timeout',
      reason: `${placeOf(place)} had no result after ${callback.maxPolls} looks`,
      retryable: false,
      evidence: { polls: callback.maxPolls, url: placeOf(place) },
    }
  },
})

/** What keeps a look from being made, such as a token that nobody gives just now, is a look that failed: the work is under way all the same. */
const look = (...asked: Parameters<typeof sendRequest>): Promise<Sent> =>
  sendRequest(...asked).catch((error: unknown) => {
    asked[1].env.signal.throwIfAborted()
    if (!(error instanceof Failure)) throw error
    return { failed: resultOfFailure(error) }
  })

/** A look that failed for a reason which passes by itself; the next one may see more. */
const hasPassed = (sent: Sent): boolean =>
  'failed' in sent ? sent.failed.retryable : meaningOf(sent.answer.status) === 'retry'

const underWay = (result: TryResult): TryResult => (result.ok ? result : { ...result, retryable: false, wasSent: true })

function resultOf(answer: Answer, env: DriverEnv): TryResult {
  const meaning = meaningOf(answer.status)
  return meaning === 'ok' ? { ok: true, output: readBody(answer, 'auto') } : refusedBy(answer, meaning, env.clock.now())
}

function isPending(answer: Answer, { pending }: CallbackBlock): boolean {
  if (answer.status === 202 || answer.status === 204) return true
  if (!pending || meaningOf(answer.status) !== 'ok' || !isJson(answer.headers)) return false
  const state = JSON.stringify(at(readBody(answer, 'json'), pending.path))
  return pending.values.some((value) => JSON.stringify(value) === state)
}

/** Where to look: what the answer says, seen from where it was asked. */
function placeIn(answer: Answer, { location }: CallbackBlock): string {
  const told = location === undefined ? answer.headers['location'] : at(readBody(answer, 'json'), location)
  const place = typeof told === 'string' ? URL.parse(told, answer.url) : null
  if (place && /^https?:$/.test(place.protocol)) return place.href
  throw new Failure('tool.invalid_output', `${placeOf(answer.url)} does not say where to look for its result`, {
    evidence: { status: answer.status, lookedFor: location ?? 'header Location' },
  })
}

/** The value at a JSON pointer; undefined where there is none. */
function at(value: Json, pointer: string): Json | undefined {
  let here: Json | undefined = value
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    if (Array.isArray(here)) here = here[Number(key)]
    else here = isObject(here) && Object.hasOwn(here, key) ? here[key] : undefined
  }
  return here
}
