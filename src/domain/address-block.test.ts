import { describe, expect, test } from 'vitest'
import { inBlocks, isLoopback, parseBlock, plainAddress } from './address-block.ts'

describe('blocks of addresses', () => {
  test('are read with and without a prefix, and nothing else is', () => {
    expect(parseBlock('10.0.0.0/8')).toEqual({ address: '10.0.0.0', prefix: 8, family: 'ipv4' })
    expect(parseBlock('::1')).toEqual({ address: '::1', prefix: 128, family: 'ipv6' })
    for (const text of ['', 'example.org', '10.0.0.0/33', '10.0.0/8', '10.0.0.0/', '::1/129'])
      expect(parseBlock(text)).toBeNull()
  })

  test('hold their addresses', () => {
    const isIn = inBlocks(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'])
    expect(['10.1.2.3', '2001:db8::1', '192.0.2.7'].map(isIn)).toEqual([true, true, true])
    expect(['11.0.0.1', '2001:db9::1', '192.0.2.8', 'nonsense'].map(isIn)).toEqual([false, false, false, false])
    expect(plainAddress('::ffff:10.1.2.3')).toBe('10.1.2.3')
  })

  test('of this machine alone', () => {
    expect(['127.0.0.1', '127.9.9.9', '::1', '[::1]', 'localhost'].map(isLoopback)).not.toContain(false)
    expect(['0.0.0.0', '::', '192.0.2.1', 'orrery.example'].map(isLoopback)).not.toContain(true)
  })
})
