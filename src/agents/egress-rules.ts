import { isIP } from 'node:net'
import { inBlocks, plainAddress } from '../domain/address-block.ts'

/** Who may be called. */
export interface EgressPolicy {
  /** Loopback and private networks too. */
  allowPrivate: boolean
  /** Nobody else: what is sent stays here. */
  onlyPrivate: boolean
  /** Hosts that rules let be called: one has to be in the list of each of them. Left out: any. */
  hosts?: readonly HostRule[]
}

export interface HostRule {
  rule: string
  /** `*.example.com` is all below it. */
  hosts: readonly string[]
}

/** The rule that does not let a host be called; null when all of them do. A port says nothing of who is called. */
export function hostRefusal(host: string, rules: readonly HostRule[] = []): HostRule | null {
  const plain = plainHost(host)
  const isMeant = (pattern: string): boolean => {
    const wanted = plainHost(pattern)
    return wanted.startsWith('*.') ? plain.endsWith(wanted.slice(1)) : plain === wanted
  }
  return rules.find(({ hosts }) => !hosts.some(isMeant)) ?? null
}

const plainHost = (host: string): string =>
  host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')

/** Never called, whatever is allowed: what a cloud tells its machines, neighbours on the link, and what is no single host. */
const isForbidden = inBlocks([
  '169.254.0.0/16',
  'fe80::/10',
  'fd00:ec2::254',
  'fd20:ce::254',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '224.0.0.0/4',
  'ff00::/8',
  '255.255.255.255',
])

const isPrivate = inBlocks([
  '0.0.0.0/8',
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '192.0.0.0/24',
  '198.18.0.0/15',
  '240.0.0.0/4',
  '::/128',
  '::1',
  'fc00::/7',
  'fec0::/10',
])

/** Why an address may not be called; null when it may. An IPv4 address is looked at in whatever IPv6 form it comes. */
export function refusalOf(address: string, policy: EgressPolicy): string | null {
  const plain = embeddedIpv4(address) ?? plainAddress(address)
  if (isIP(plain) === 0) return 'is no address'
  if (isForbidden(plain)) return 'is link-local, multicast or tells the metadata of a cloud'
  const isNear = isPrivate(plain)
  if (isNear && !policy.allowPrivate) return 'is loopback or private'
  if (!isNear && policy.onlyPrivate) return 'is public, and the endpoint is local'
  return null
}

/** The IPv4 address that an IPv6 one leads to: mapped, compatible, by NAT64 or 6to4. Null for any other. */
function embeddedIpv4(address: string): string | null {
  const words = isIP(address) === 6 ? wordsOf(address) : null
  if (words === null) return null
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = words
  const leading = a === 0 && b === 0 && c === 0 && d === 0
  const isMapped = leading && e === 0 && (f === 0xffff || (f === 0 && (g !== 0 || h > 1)))
  const isNat64 = a === 0x64 && b === 0xff9b
  if (isMapped || isNat64) return dotted(g, h)
  return a === 0x2002 ? dotted(b, c) : null
}

const dotted = (high: number, low: number): string => [high >> 8, high & 255, low >> 8, low & 255].join('.')

/** The eight numbers of an IPv6 address that is known to be one. */
function wordsOf(address: string): number[] {
  const text = (address.split('%')[0] ?? '').replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...n: string[]) => {
    const [p, q, r, s] = n.slice(0, 4).map(Number)
    return `${(((p ?? 0) << 8) | (q ?? 0)).toString(16)}:${(((r ?? 0) << 8) | (s ?? 0)).toString(16)}`
  })
  const [head = '', tail] = text.split('::')
  const parse = (part: string): number[] => (part === '' ? [] : part.split(':').map((word) => parseInt(word, 16)))
  const first = parse(head)
  const last = tail === undefined ? [] : parse(tail)
  return [...first, ...Array<number>(Math.max(0, 8 - first.length - last.length)).fill(0), ...last]
}

/**
 * Ports at which something else than HTTP listens, which might take a request for words of its own: those that no browser calls.
 * @see https://fetch.spec.whatwg.org/#port-blocking
 */
const OTHER_PORTS = new Set(
  `1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135 137 139 143 161 179
  389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719 1720 1723 2049 3659 4045 4190 5060
  5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080`.split(/\s+/),
)

export const isOtherPort = (port: string): boolean => OTHER_PORTS.has(port)
