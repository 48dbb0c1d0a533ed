import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import type { Agent, Response as UndiciResponse } from 'undici'
import { once } from '../base/once.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { type EgressPolicy, hostRefusal, type HostRule, refusalOf } from './egress-rules.ts'

/** All addresses of a name, as the system finds them. */
export type Resolve = (
  name: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** The one way out for what is called over HTTP on behalf of a manifest. */
export interface Egress {
  /**
   * A fetch that calls only whom the policy allows. The very address that was looked at is the one that is called, and each redirect is
   * looked at anew. Fails with `model.address_blocked`. `credentials` are headers that go to the first origin alone, beside the usual ones.
   */
  fetch(policy: EgressPolicy, credentials?: readonly string[]): typeof globalThis.fetch
  /** The address of a host that may be called, for what is not HTTP: connect to it and not to the name. Fails with `model.address_blocked`. */
  addressOf(host: string, policy: EgressPolicy): Promise<string>
  /** Ends kept connections. */
  close(): Promise<void>
  /** Tells ways out apart whose rules let other hosts be called. Absent: any host. */
  hosts?: readonly HostRule[]
}

/** The same way out, for those whom rules let call some hosts only. */
export const withinHosts = (egress: Egress, hosts: readonly HostRule[]): Egress =>
  hosts.length === 0
    ? egress
    : {
        fetch: (policy, credentials) => egress.fetch({ ...policy, hosts }, credentials),
        addressOf: (host, policy) => egress.addressOf(host, { ...policy, hosts }),
        close: () => egress.close(),
        hosts,
      }

/** Throws `policy.denied` for a host that a rule does not let be called. */
function checkHost(host: string, policy: EgressPolicy): void {
  const refusal = hostRefusal(host, policy.hosts)
  if (!refusal) return
  const { rule, hosts } = refusal
  throw new Failure('policy.denied', `calling ${host}`, {
    evidence: { rule, part: 'egress.hosts', host, hosts: [...hosts] },
    remediation: `Call one of ${hosts.join(', ') || 'no host at all'}, or add ${host} to spec.egress.hosts of ${rule}.`,
  })
}

/** Loaded when something is first called. */
const undici = once(() => import('undici'))

const everyAddress: Resolve = (name, done) => systemLookup(name, { all: true, verbatim: true }, done)

/** Headers that open something: they go to the origin alone that they were meant for. */
const CREDENTIALS = [
  'authorization',
  'x-api-key',
  'api-key',
  'x-goog-api-key',
  'x-amz-security-token',
  'cookie',
  'proxy-authorization',
]

const blocked = (host: string, address: string, why: string): Failure =>
  new Failure('model.address_blocked', `calling ${host}`, {
    evidence: { host, address, why },
    ...(why.includes('private')
      ? {
          remediation:
            'Set allowPrivateAddresses: true at the endpoint when it is meant to be here; else correct spec.baseUrl.',
        }
      : {}),
  })

export function createEgress(resolve: Resolve = everyAddress): Egress {
  const agents = new Map<string, Promise<Agent>>()
  const agentOf = (policy: EgressPolicy): Promise<Agent> => {
    const key = JSON.stringify([policy.allowPrivate, policy.onlyPrivate])
    const agent = agents.get(key) ?? makeAgent(policy, resolve)
    agents.set(key, agent)
    return agent
  }
  return {
    fetch: (policy, credentials) => async (input, init) => {
      const request = { ...init, url: urlOf(input) }
      const [{ fetch }, agent] = await Promise.all([undici(), agentOf(policy)])
      // A stream of undici's Response is that of the platform, of which it is the implementation.
      const send: Send = async (url, options) =>
        fetch(url, { ...(options as object), redirect: 'manual', dispatcher: agent })
      return (await follow(request, policy, {
        send,
        credentials: [...CREDENTIALS, ...(credentials ?? [])],
      })) as unknown as Response
    },
    addressOf: (host, policy) => checkedAddress(host, policy, resolve),
    async close() {
      for (const agent of agents.values()) await (await agent).close()
      agents.clear()
    },
  }
}

const urlOf = (input: Parameters<typeof globalThis.fetch>[0]): string =>
  typeof input === 'string' ? input : input instanceof URL ? input.href : input.url

async function makeAgent(policy: EgressPolicy, resolve: Resolve): Promise<Agent> {
  const { Agent } = await undici()
  // Answers of a model may be slow to begin: the gateway has time-outs of its own.
  return new Agent({ connect: { lookup: guardedLookup(policy, resolve) }, headersTimeout: 0, bodyTimeout: 0 })
}

async function checkedAddress(host: string, policy: EgressPolicy, resolve: Resolve): Promise<string> {
  const plain = host.replace(/^\[(.*)\]$/, '$1')
  checkHost(plain, policy)
  const why = isIP(plain) === 0 ? null : refusalOf(plain, policy)
  if (why !== null) throw blocked(plain, plain, why)
  if (isIP(plain) !== 0) return plain
  return new Promise((done, fail) =>
    guardedLookup(policy, resolve)(plain, {}, (error, address) =>
      error || typeof address !== 'string' ? fail(error ?? new Error(`no address of ${plain}`)) : done(address),
    ),
  )
}

/** A lookup that gives no address which may not be called. One bad answer spoils the name: who mixes them means harm. */
export function guardedLookup(policy: EgressPolicy, resolve: Resolve): LookupFunction {
  return (name, options, done) => {
    resolve(name, (error, addresses) => {
      const none: NodeJS.ErrnoException = Object.assign(new Error(`no address of ${name}`), { code: 'ENOTFOUND' })
      if (error) return done(error, [])
      for (const { address } of addresses) {
        const why = refusalOf(address, policy)
        if (why !== null) return done(blocked(name, address, why), [])
      }
      const wanted = addresses.filter(({ family }) => !options.family || family === options.family)
      const [first] = wanted
      if (!first) return done(none, [])
      if (options.all) return done(null, wanted)
      done(null, first.address, first.family)
    })
  }
}

type Send = (url: string, init: RequestInit) => Promise<UndiciResponse>

/** Redirects after which the request is another one than it was: only what merely reads is led on by them. */
const isRedirect = (status: number, method: string): boolean =>
  status === 307 || status === 308 || (/^(GET|HEAD)$/i.test(method) && [301, 302, 303].includes(status))

async function follow(
  { url, ...init }: RequestInit & { url: string },
  policy: EgressPolicy,
  { send, credentials }: { send: Send; credentials: readonly string[] },
) {
  let at = url
  let headers = new Headers(init.headers)
  for (let redirects = 0; ; redirects++) {
    checkHost(new URL(at).hostname, policy)
    checkLiteral(at, policy)
    const response = await send(at, { ...init, headers: Object.fromEntries(headers) }).catch((error: unknown) => {
      throw blockIn(error) ?? error
    })
    const location = response.headers.get('location')
    // Who asks for it looks at redirects itself, and calls anew where it wants to.
    if (init.redirect === 'manual') return bounded(response)
    if (!isRedirect(response.status, init.method ?? 'GET') || location === null) return bounded(response)
    const next = URL.parse(location, at)
    if (redirects >= LIMITS.redirectsMax || next === null) return bounded(response)
    await response.body?.cancel()
    if (!/^https?:$/.test(next.protocol)) throw blocked(next.host, location.slice(0, 200), 'is no address of HTTP')
    if (next.origin !== new URL(at).origin) {
      headers = new Headers(headers)
      for (const name of credentials) headers.delete(name)
    }
    at = next.href
  }
}

/** An answer as it comes, up to a bound; of one that refuses only so much is read as somebody will look at. */
async function bounded(response: UndiciResponse): Promise<UndiciResponse> {
  if (response.body === null) return response
  const { status, statusText, headers } = response
  const { Response: Whole } = await undici()
  if (response.ok) return new Whole(response.body.pipeThrough(counting()), { status, statusText, headers })
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    chunks.push(chunk)
    size += chunk.length
    if (size >= LIMITS.refusalBytes) break
  }
  return new Whole(Buffer.concat(chunks).subarray(0, LIMITS.refusalBytes), { status, statusText, headers })
}

/** Whoever reads an answer gathers its lines, so one that does not end would fill the memory. */
function counting(): TransformStream<Uint8Array, Uint8Array> {
  let size = 0
  return new TransformStream({
    transform(chunk, controller) {
      size += chunk.length
      if (size > LIMITS.answerBytes)
        controller.error(new Error(`the answer is larger than ${LIMITS.answerBytes} bytes`))
      else controller.enqueue(chunk)
    },
  })
}

/** A name is looked at when it is resolved; an address is never resolved. */
function checkLiteral(url: string, policy: EgressPolicy): void {
  const { hostname } = new URL(url)
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  if (isIP(host) === 0) return
  const why = refusalOf(host, policy)
  if (why !== null) throw blocked(host, host, why)
}

/** The refusal that a failed connection was caused by. */
function blockIn(error: unknown): Failure | null {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof Failure) return cause
  return null
}
