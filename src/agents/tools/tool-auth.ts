import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../../base/clock.ts'
import { Failure } from '../../domain/failure.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isFine } from '../reply.ts'
import { decodeText, readBytes } from './read-answer.ts'
import type { DriverEnv } from './tool-driver.ts'

/** How a call shows who makes it: a header, with the token that stands in it when one was borrowed for it. */
export interface Shown {
  header: { name: string; value: string } | null
  /** Says that the token was refused: the next call borrows another. Null: there is nothing else to show. */
  refused: (() => void) | null
}

export interface ToolAuth {
  /** Fails with `secret.*`, or `tool.auth_failed` when nobody gives a token. */
  show(spec: ToolSpec, env: DriverEnv): Promise<Shown>
}

type Oauth = NonNullable<ToolSpec['auth']>

interface Token {
  value: string
  /** Of the monotonic clock. */
  goodUntil: number
}

/** A token is renewed so long before its end, so that it does not end on the way. */
const AHEAD_MS = 30_000
const LIFE_MS = 3_600_000
const TOKEN_TIMEOUT_MS = 30_000
const TOKENS_KEPT = 1_000

/** Tokens are kept until they end, for all calls of one worker; while one is being borrowed, nobody borrows a second. */
export function createToolAuth(clock: Clock): ToolAuth {
  const tokens = new Map<string, Promise<Token>>()
  return {
    async show(spec, env) {
      const { auth } = spec
      if (!auth) return { header: null, refused: null }
      const { name, value } = await headerOf(auth, env)
      if (name !== null) return { header: { name, value }, refused: null }
      const borrowed = await tokenOf(auth, spec, env)
      env.hide(borrowed.token)
      return { header: { name: 'authorization', value: `Bearer ${borrowed.token}` }, refused: borrowed.refused }
    },
  }

  async function tokenOf(auth: Oauth, spec: ToolSpec, env: DriverEnv) {
    const client = { id: await textOf(auth.clientId, env), secret: await textOf(auth.clientSecret, env) }
    // Whoever may not call who gives tokens is not handed one that another had.
    const about = [auth, client, spec.allowPrivateAddresses, env.egress.hosts ?? null]
    const key = createHash('sha256').update(JSON.stringify(about)).digest('base64')
    const former = tokens.get(key)
    const known = await former?.catch(() => null)
    // Somebody else may have begun to borrow the next one meanwhile.
    if (known && known.goodUntil <= clock.monotonic() && tokens.get(key) === former) tokens.delete(key)
    const pending = tokens.get(key) ?? keep(key, borrow(auth, client, { spec, env, clock }))
    const token = await untilEnd(pending, env.signal)
    return {
      token: token.value,
      refused: () => {
        if (tokens.get(key) === pending) tokens.delete(key)
      },
    }
  }

  function keep(key: string, pending: Promise<Token>): Promise<Token> {
    tokens.set(key, pending)
    const [oldest] = tokens.keys()
    if (tokens.size > TOKENS_KEPT && oldest !== undefined) tokens.delete(oldest)
    pending.catch(() => {
      if (tokens.get(key) === pending) tokens.delete(key)
    })
    return pending
  }
}

/** Somebody else may wait for it too, so that only this wait ends. */
function untilEnd<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = new Promise<never>((_, fail) => {
    signal.addEventListener('abort', () => fail(signal.reason as Error), { once: true })
  })
  return Promise.race([work, ended])
}

async function textOf(value: string | { secret: string; key: string } | undefined, env: DriverEnv): Promise<string> {
  if (typeof value === 'string' || value === undefined) return value ?? ''
  const text = (await env.secret(value)).trim()
  if (text === '')
    throw new Failure('tool.auth_failed', `reading key ${value.key} of secret ${value.secret}`, {
      evidence: { secret: value.secret, key: value.key, why: 'its value is blank' },
    })
  return text
}

/** The header of what needs no token; a name of null where one has to be borrowed. */
async function headerOf(
  auth: Oauth,
  env: DriverEnv,
): Promise<{ name: string; value: string } | { name: null; value: null }> {
  switch (auth.type) {
    case 'bearer':
      return { name: 'authorization', value: `Bearer ${await textOf(auth.token, env)}` }
    case 'header':
      return { name: (auth.name ?? '').toLowerCase(), value: await textOf(auth.value, env) }
    case 'basic':
      return { name: 'authorization', value: basic(await textOf(auth.username, env), await textOf(auth.password, env)) }
    case 'oauth2':
      return { name: null, value: null }
  }
}

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

const tokenSchema = z.object({
  access_token: z.string().min(1),
  token_type: z.string().optional(),
  expires_in: z.coerce.number().positive().optional(),
})

/** Client credentials, as RFC 6749 has them. */
async function borrow(
  auth: Oauth,
  client: { id: string; secret: string },
  { spec, env, clock }: { spec: ToolSpec; env: DriverEnv; clock: Clock },
): Promise<Token> {
  const tokenUrl = auth.tokenUrl ?? ''
  const form = new URLSearchParams({ grant_type: 'client_credentials' })
  if (auth.scopes) form.set('scope', auth.scopes.join(' '))
  if (auth.audience !== undefined) form.set('audience', auth.audience)
  const headers: Record<string, string> = {
    'content-type': 'application/x-www-form-urlencoded',
    accept: 'application/json',
  }
  if (auth.clientIn === 'body') {
    form.set('client_id', client.id)
    form.set('client_secret', client.secret)
  } else headers['authorization'] = basic(encodeURIComponent(client.id), encodeURIComponent(client.secret))
  const ending = new AbortController()
  clock.sleep(TOKEN_TIMEOUT_MS, ending.signal).then(
    () => ending.abort(new Failure('tool.timeout', `borrowing a token from ${tokenUrl}`)),
    () => {},
  )
  try {
    const policy = { allowPrivate: spec.allowPrivateAddresses, onlyPrivate: false }
    const {
      status,
      headers: told,
      body,
    } = await env.egress.requests(policy)(tokenUrl, {
      method: 'POST',
      headers,
      body: form.toString(),
      // What is in the body would be sent on to wherever it leads.
      redirect: 'manual',
      signal: ending.signal,
    })
    const place = told['location']
    const answer = await readBytes(body, LIMITS.refusalBytes, 'the answer')
    const text = decodeText(answer, 'the answer')
    const parsed = isFine(status) ? tokenSchema.safeParse(parsedOrNull(text)) : null
    if (!parsed?.success)
      throw new Failure('tool.auth_failed', `borrowing a token from ${tokenUrl}`, {
        evidence: {
          tokenUrl,
          status,
          ...(isFine(status) ? {} : { answer: text.slice(0, LIMITS.modelRefusalChars) }),
        },
        remediation:
          place === undefined || status < 300 || status > 399
            ? 'Look at clientId, clientSecret, scopes and tokenUrl of the tool.'
            : `No redirect is followed with a secret: set tokenUrl to ${place.slice(0, 300)} when that is meant.`,
      })
    const lifeMs = parsed.data.expires_in === undefined ? LIFE_MS : parsed.data.expires_in * 1_000
    return { value: parsed.data.access_token, goodUntil: clock.monotonic() + lifeMs - Math.min(AHEAD_MS, lifeMs / 2) }
  } finally {
    ending.abort()
  }
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
