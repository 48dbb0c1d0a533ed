import { lookup as systemLookup, type LookupAddress } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import type { Agent } from 'undici'
import { once } from '../base/once.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { type EgressPolicy, hostRefusal, type HostRule, isOtherPort, refusalOf } from './egress-rules.ts'
import { type Reply, sendOnce, type SendRequest, type SentRequest } from './reply.ts'
import { webFetch } from './web-fetch.ts'

/** All addresses of a name, as the system finds them. */
export type Resolve = (
  name: string,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** The one way out for what is called over HTTP on behalf of a manifest. */
export interface Egress {
  /**
   * Requests that call only whom the policy allows. The very address that was looked at is the one that is called, and each redirect is
   * looked at anew. Fail with `model.address_blocked`. `credentials` are headers that go to the first origin alone, beside the usual ones.
   */
  requests(policy: EgressPolicy, credentials?: readonly string[]): SendRequest
  /** The same as a fetch, for what is written for the web. */
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
        requests: (policy, credentials) => egress.requests({ ...policy, hosts }, credentials),
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
    const key = `${policy.allowPrivate} ${policy.onlyPrivate}`
    const agent = agents.get(key) ?? makeAgent(policy, resolve)
    agents.set(key, agent)
    return agent
  }
  const requests: Egress['requests'] = (policy, credentials) => async (url, request) => {
    const agent = await agentOf(policy)
    return follow(url, request, { policy, agent, credentials })
  }
  return {
    requests,
    fetch: (policy, credentials) => webFetch(requests(policy, credentials)),
    addressOf: (host, policy) => checkedAddress(host, policy, resolve),
    async close() {
      for (const agent of agents.values()) await (await agent).close()
      agents.clear()
    },
  }
}

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

/** Redirects after which the request is another one than it was: only what merely reads is led on by them. */
const isRedirect = (status: number, method: string): boolean =>
  status === 307 || status === 308 || (/^(GET|HEAD)$/i.test(method) && [301, 302, 303].includes(status))

/** What every request says of itself, unless it says something else. */
const USUAL = { accept: '*/*', 'accept-encoding': 'gzip, br', 'user-agent': 'orrery' }

async function follow(
  url: string,
  request: SentRequest,
  {
    policy,
    agent,
    credentials = [],
  }: { policy: EgressPolicy; agent: Agent; credentials: readonly string[] | undefined },
): Promise<Reply> {
  let at = new URL(url)
  let headers: Record<string, string> = { ...USUAL, ...request.headers }
  for (let redirects = 0; ; redirects++) {
    checkTarget(at, policy)
    const reply = await sendOnce(agent, at, { ...request, headers }).catch((error: unknown) => {
      throw blockIn(error) ?? error
    })
    const { location } = reply.headers
    if (location === undefined || request.redirect === 'manual' || !isRedirect(reply.status, request.method))
      return reply
    const next = URL.parse(location, at.href)
    if (redirects >= LIMITS.redirectsMax || next === null) return reply
    reply.discard()
    if (!isHttp(next)) throw blocked(next.host, location.slice(0, 200), 'is no address of HTTP')
    if (next.origin !== at.origin) {
      headers = { ...headers }
      for (const name of [...CREDENTIALS, ...credentials]) delete headers[name]
    }
    at = next
  }
}

const isHttp = ({ protocol }: URL): boolean => protocol === 'http:' || protocol === 'https:'

/** A name is looked at when it is resolved; an address is never resolved. */
function checkTarget(target: URL, policy: EgressPolicy): void {
  const { hostname, username, password, port } = target
  checkHost(hostname, policy)
  const host = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  const why = isIP(host) === 0 ? null : refusalOf(host, policy)
  if (why !== null) throw blocked(host, host, why)
  if (!isHttp(target)) throw new TypeError(`${target.protocol} is no protocol of HTTP`)
  // A password in an address would come up wherever the address does.
  if (username !== '' || password !== '') throw new TypeError('the address has a name or a password in it')
  if (isOtherPort(port)) throw new TypeError(`port ${port} is of another protocol than HTTP`)
}

/** The refusal that a failed connection was caused by. */
function blockIn(error: unknown): Failure | null {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof Failure) return cause
  return null
}
