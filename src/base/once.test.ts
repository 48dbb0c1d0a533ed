import { expect, test } from 'vitest'
import { once } from './once.ts'

test('what was loaded is kept, and a load that failed is tried again', async () => {
  let loads = 0
  const load = once(() => {
    loads++
    return loads === 1 ? Promise.reject(new Error('not there')) : Promise.resolve(loads)
  })
  const both = await Promise.allSettled([load(), load()])
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  expect(loads).toBe(1)
  expect(await load()).toBe(2)
  expect(await load()).toBe(2)
})
