import { expect, test } from 'vitest'
import { nearest } from './nearest.ts'

const candidates = ['needs', 'name', 'timeout', 'command', 'retry']

test.for([
  ['need', 'needs'],
  ['timeOut', 'timeout'],
  ['comand', 'command'],
  ['rerty', 'retry'],
  ['NAME', 'name'],
])('%s was probably meant as %s', ([typed = '', meant]) => {
  expect(nearest(typed, candidates)).toBe(meant)
})

test('nothing is suggested for what resembles nothing', () => {
  expect(nearest('environment', candidates)).toBeNull()
  expect(nearest('anything', [])).toBeNull()
})

test('of two near ones the nearer is taken, of equal ones the first', () => {
  expect(nearest('stepp', ['stop', 'step'])).toBe('step')
  expect(nearest('stap', ['stop', 'step'])).toBe('stop')
})

test('a very long text is compared by its beginning only', () => {
  expect(nearest('x'.repeat(1_000_000), candidates)).toBeNull()
})
