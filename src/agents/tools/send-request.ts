import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import type { StatusMeaning } from '../../domain/kinds/tool-blocks.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isFine, type Reply } from '../reply.ts'
import { decodeText, readBytes } from './read-answer.ts'
import type { ToolAuth } from './tool-auth.ts'
import type { DriverEnv, TryResult } from './tool-driver.ts'

export interface Wish {
  method: string
  url: string
  headers: Record<string, string>
  body: string | null
  /** Shown to the origin of this address alone; left out: to whom is called. */
  authorityOf?: string
}

export interface Answer {
  status: number
  headers: Reply['headers']
  /** Read to its end and no further than the tool may give. */
  bytes: Buffer
  url: string
}

export type Sent = { answer: Answer } | { failed: Extract<TryResult, { ok: false }> }

/** One request of a tool: with its key, its trace and what shows who calls; once more with another token when one was refused. */
export async function sendRequest(
  wish: Wish,
  { spec, envelope, env, auth }: { spec: ToolSpec; envelope: ToolCallEnvelope; env: DriverEnv; auth: ToolAuth },
): Promise<Sent> {
  const isShown = wish.authorityOf === undefined || new URL(wish.authorityOf).origin === new URL(wish.url).origin
  for (let isFirst = true; ; isFirst = false) {
    const shown = isShown ? await auth.show(spec, env) : { header: null, refused: null }
    const headers = {
      'idempotency-key': envelope.idempotencyKey,
      traceparent: envelope.context.traceparent,
      ...wish.headers,
      ...(shown.header ? { [shown.header.name]: shown.header.value } : {}),
    }
    const send = env.egress.requests(
      { allowPrivate: spec.allowPrivateAddresses, onlyPrivate: false },
      shown.header ? [shown.header.name] : [],
    )
    let reply: Reply
    try {
      const { method, url, body } = wish
      reply = await send(url, { method, headers, body, signal: env.signal })
    } catch (error) {
      env.signal.throwIfAborted()
      if (error instanceof Failure) throw withRemedy(error)
      return { failed: unreached(wish.url, error) }
    }
    if (reply.status === 401 && shown.refused && isFirst) {
      shown.refused()
      reply.discard()
      continue
    }
    return readAnswer(reply, wish.url, { spec, env })
  }
}

async function readAnswer(
  { status, headers, body }: Reply,
  url: string,
  { spec, env }: { spec: ToolSpec; env: DriverEnv },
): Promise<Sent> {
  // What refuses may say more than the tool may give: of it only so much is read as somebody will look at.
  const maxBytes = isFine(status) ? spec.maxOutputBytes : LIMITS.refusalBytes
  try {
    const bytes = await readBytes(body, maxBytes, `the answer of ${placeOf(url)}`)
    return { answer: { status, headers, bytes, url } }
  } catch (error) {
    env.signal.throwIfAborted()
    if (error instanceof Failure) throw error
    return { failed: { ...unreached(url, error), wasSent: true } }
  }
}

/** The address without what a call said, which may be anything. */
export const placeOf = (url: string): string => {
  const parsed = URL.parse(url)
  return parsed ? `${parsed.origin}${parsed.pathname}`.slice(0, 300) : 'no address'
}

export const withRemedy = (error: Failure): Failure =>
  error.code === 'model.address_blocked'
    ? new Failure(error.code, `${error.message}, which ${String(error.evidence?.['why'])}`, {
        ...(error.evidence ? { evidence: error.evidence } : {}),
        ...(String(error.evidence?.['why']).includes('private')
          ? {
              remediation:
                'Set allowPrivateAddresses: true of the tool when it is meant to be here; else correct its address.',
            }
          : {}),
      })
    : error

/** Errors of a connection that was never there. */
const NOT_SENT = /^(ECONNREFUSED|EAI_AGAIN|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT|EADDRNOTAVAIL)$/
/** Those that do not pass by themselves. */
const STAYS = /^(ENOTFOUND|ERR_TLS_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_SSL|EPROTO|ERR_INVALID)/

function unreached(url: string, error: unknown): Extract<TryResult, { ok: false }> {
  let deepest: Error & { code?: unknown } = error instanceof Error ? error : new Error(String(error))
  while (deepest.cause instanceof Error) deepest = deepest.cause
  const code = typeof deepest.code === 'string' ? deepest.code : ''
  const isCertificate = STAYS.test(code) && code !== 'ENOTFOUND'
  return {
    ok: false,
    code: 'tool.failed',
    reason: `calling ${placeOf(url)}: ${deepest.message || code}`,
    retryable: code !== '' && !STAYS.test(code),
    ...(NOT_SENT.test(code) || isCertificate ? { wasSent: false } : {}),
    evidence: { url: placeOf(url), ...(code === '' ? {} : { error: code }) },
  }
}

/** What a status means: as the tool says, the exact one before its class. */
export function meaningOf(status: number, statuses: Record<string, StatusMeaning> = {}): StatusMeaning {
  const own = statuses[String(status)] ?? statuses[`${Math.floor(status / 100)}xx`]
  if (own !== undefined) return own
  if (status >= 200 && status < 300) return 'ok'
  return status === 408 || status === 429 || status >= 500 ? 'retry' : 'fail'
}

/** An answer that is no success. */
export function refusedBy(
  { status, headers, bytes, url }: Answer,
  meaning: StatusMeaning,
  now: number,
): Extract<TryResult, { ok: false }> {
  const text = textOrBytes(bytes)
  const isAuth = (status === 401 || status === 403) && meaning === 'fail'
  const after = retryAfterMs(headers, now)
  const [firstLine = ''] = text.trim().split('\n')
  return {
    ok: false,
    code: isAuth ? 'tool.auth_failed' : 'tool.failed',
    reason: `${placeOf(url)} answered ${status}${firstLine === '' ? '' : `: ${firstLine.slice(0, 200)}`}`,
    retryable: meaning === 'retry',
    // Whoever is told to come back, or who it is, did nothing yet.
    ...(status === 429 || status === 401 ? { wasSent: false } : {}),
    ...(after === null ? {} : { retryAfterMs: after }),
    evidence: { url: placeOf(url), status, answer: text.slice(0, LIMITS.modelRefusalChars) },
  }
}

function textOrBytes(bytes: Buffer): string {
  try {
    return decodeText(bytes, 'the answer')
  } catch {
    return `${bytes.length} bytes that are no text`
  }
}

/** How long `Retry-After` asks to wait, in milliseconds; null when it says nothing that can be read. */
export function retryAfterMs({ 'retry-after': text }: Reply['headers'], now: number): number | null {
  if (text === undefined) return null
  if (/^\d+(\.\d+)?$/.test(text)) return Math.ceil(Number(text) * 1_000)
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : Math.max(0, at - now)
}

/** What an answer says its text is in. */
export const charsetOf = ({ 'content-type': type = '' }: Reply['headers']): string | undefined =>
  /charset="?([\w:.-]+)"?/i.exec(type)?.[1]

export const isJson = ({ 'content-type': type = '' }: Reply['headers']): boolean => /^[^;]*[/+]json\s*(;|$)/i.test(type)
