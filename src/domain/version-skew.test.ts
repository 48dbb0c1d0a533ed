import { expect, test } from 'vitest'
import { mayExchange } from './version-skew.ts'

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
