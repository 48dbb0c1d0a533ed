import { expect, test } from 'vitest'
import { linkedAbort } from './linked-abort.ts'

const why = new Error('why')

test('aborts with the other signal, and for its reason', () => {
  const outer = new AbortController()
  const told: unknown[] = []
  const linked = linkedAbort(outer.signal, (reason) => told.push(reason))
  expect(linked.signal.aborted).toBe(false)
  outer.abort(why)
  expect(linked.signal.reason).toBe(why)
  expect(linkedAbort(outer.signal, (reason) => told.push(reason)).signal.reason).toBe(why)
  linked.abort(new Error('again'))
  linked.end()
  expect(told).toEqual([why, why])
})

test('aborts by itself, and leaves the other signal as it is', () => {
  const outer = new AbortController()
  const linked = linkedAbort(outer.signal)
  linked.abort(why)
  linked.end()
  expect([linked.signal.reason, outer.signal.aborted]).toEqual([why, false])
})

test('ends whatever still listens when it is over, and hears nothing more', () => {
  const outer = new AbortController()
  const told: unknown[] = []
  const linked = linkedAbort(outer.signal, (reason) => told.push(reason))
  let ended = 0
  linked.signal.addEventListener('abort', () => ended++)
  linked.end()
  outer.abort(why)
  expect([ended, linked.signal.aborted, linked.signal.reason === why, told]).toEqual([1, true, false, []])
})
