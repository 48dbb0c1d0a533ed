import { expect, test } from 'vitest'
import { assert, Bug } from './assert.ts'
import { deferred } from './deferred.ts'

test('a broken assumption is a Bug with its message', () => {
  expect(() => assert(false, 'a step has a run')).toThrow(new Bug('a step has a run'))
  expect(() => assert(1, 'fine')).not.toThrow()
})

test('a deferred promise is settled from outside, once', async () => {
  const { promise, resolve, reject } = deferred<number>()
  resolve(1)
  resolve(2)
  reject(new Error('late'))
  expect(await promise).toBe(1)
})
