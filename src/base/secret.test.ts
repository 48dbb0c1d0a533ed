import { format, inspect } from 'node:util'
import { expect, test } from 'vitest'
import { Secret } from './secret.ts'

const value = 'hunter2-correct-horse'
const secret = new Secret(value)

test('only reveal() gives the value', () => {
  expect(secret.reveal()).toBe(value)
})

test.for<[how: string, print: () => string]>([
  ['a template', () => `${secret as unknown as string} `],
  ['String()', () => String(secret)],
  ['JSON', () => JSON.stringify({ deep: [secret] })],
  ['inspect', () => inspect({ secret }, { depth: 9, showHidden: true })],
  ['%s, %o and %j of format', () => format('%s %o %j', secret, secret, secret)],
  ['its entries', () => JSON.stringify([Object.entries(secret), Object.getOwnPropertyNames(secret)])],
  ['an error that carries it', () => inspect(new Error('refused', { cause: secret }))],
  ['a spread copy', () => JSON.stringify(Object.assign({}, secret))],
])('%s never shows it', ([, print]) => {
  expect(print()).not.toContain(value)
})
