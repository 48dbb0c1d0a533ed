import { BlockList, isIP } from 'node:net'

/** An address block such as `10.0.0.0/8` or a single address; null when the text is none. */
export function parseBlock(text: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } | null {
  const [, address = '', bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const version = isIP(address)
  if (version === 0) return null
  const width = version === 4 ? 32 : 128
  const prefix = bits === undefined ? width : Number(bits)
  return prefix > width ? null : { address, prefix, family: version === 4 ? 'ipv4' : 'ipv6' }
}

/** An address as it is compared and shown: an IPv4 one that came over an IPv6 socket is an IPv4 one. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '')

/** Whether an address lies in one of the blocks. */
export function inBlocks(blocks: readonly string[]): (address: string) => boolean {
  const list = new BlockList()
  for (const text of blocks) {
    const block = parseBlock(text)
    if (block) list.addSubnet(block.address, block.prefix, block.family)
  }
  return (address) => {
    const version = isIP(address)
    return version !== 0 && list.check(address, version === 4 ? 'ipv4' : 'ipv6')
  }
}

/** Whether a host is this machine alone: what is listened on there cannot be reached from elsewhere. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || inBlocks(['127.0.0.0/8', '::1'])(plainAddress(host.replace(/^\[(.*)\]$/, '$1')))
