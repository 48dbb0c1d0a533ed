import { expect, test } from 'vitest'
import { deferred } from './deferred.ts'
import { SerialQueue } from './serial-queue.ts'

test('one thing is done after the other, whatever becomes of those before', async () => {
  const queue = new SerialQueue()
  const gates = [deferred<void>(), deferred<void>()]
  const begun: number[] = []
  const add = (n: number) =>
    queue.add(async () => {
      begun.push(n)
      await gates[n]?.promise
      return n
    })
  const [first, second, third] = [add(0), add(1), add(2)]
  await Promise.resolve()
  expect(begun).toEqual([0])
  gates[0]?.reject(new Error('no'))
  await expect(first).rejects.toThrow('no')
  expect(begun).toEqual([0, 1])
  gates[1]?.resolve()
  expect(await Promise.all([second, third])).toEqual([1, 2])
  expect(begun).toEqual([0, 1, 2])
})
