import { expect, test } from 'vitest'
import { compatibleWith, mayExchange, versionSkew } from './version-skew.ts'

test.for([
  ['0.1.0', '0.1.9', true],
  ['0.1.0', '0.2.0', true],
  ['0.3.0', '0.2.7', true],
  ['0.1.0', '0.3.0', false],
  ['1.0.0', '0.9.0', false],
  ['1.2.0-rc.1', '1.3.0', true],
  ['a build of mine', '1.3.0', true],
] as const)('a worker of %s and a server of %s: %s', ([worker, server, may]) => {
  expect(mayExchange(worker, server)).toBe(may)
  expect(mayExchange(server, worker)).toBe(may)
})

test.for([
  ['0.3.1', '0.3.1', 'same'],
  ['0.3.1', '0.3.9', 'patch'],
  ['0.3.1', '0.4.0', 'minor'],
  ['0.3.1', '0.5.0', 'incompatible'],
  ['a build of mine', '0.5.0', 'patch'],
] as const)('%s beside %s is %s', ([a, b, skew]) => {
  expect(versionSkew(a, b)).toBe(skew)
  expect(versionSkew(b, a)).toBe(skew)
})

test('what works with a version is said', () => {
  expect(compatibleWith('0.3.1')).toBe('0.2 to 0.4')
  expect(compatibleWith('1.0.0')).toBe('1.0 and 1.1')
})
