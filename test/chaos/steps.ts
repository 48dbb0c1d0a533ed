// Functions that the workers of the crash tests load. Each says in the journal when it starts and when it ends: one write with
// O_APPEND is whole, whoever else writes, and outlives a `kill -9` of the writer.
import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FunctionContext } from '../../src/sdk/index.ts'

interface Work {
  journal: string
  ms: number
}

function note(journal: string, context: FunctionContext, what: 'start' | 'end'): void {
  appendFileSync(journal, `${context.attemptKey} ${process.pid} ${what} ${Date.now()}\n`)
}

async function work<T>({ journal, ms }: Work, context: FunctionContext, result: () => T): Promise<T> {
  note(journal, context, 'start')
  await sleep(ms, undefined, { signal: context.signal })
  const value = result()
  note(journal, context, 'end')
  return value
}

/** Adds one to a number. */
export const next = (input: Work & { value: number }, context: FunctionContext): Promise<{ value: number }> =>
  work(input, context, () => ({ value: input.value + 1 }))

/** A list of so many numbers. */
export const list = (input: Work & { count: number }, context: FunctionContext): Promise<{ items: number[] }> =>
  work(input, context, () => ({ items: Array.from({ length: input.count }, (_, i) => i + 1) }))

/** The sum of what came before. */
export const sum = (
  input: Work & { values: { value: number }[] },
  context: FunctionContext,
): Promise<{ sum: number }> =>
  work(input, context, () => ({ sum: input.values.reduce((total, { value }) => total + value, 0) }))

/** Fails until it was tried `failures` times. */
export const flaky = (input: Work & { failures: number }, context: FunctionContext): Promise<{ tries: number }> =>
  work(input, context, () => {
    if (context.tries < input.failures) throw new Error(`try ${context.tries} fails`)
    return { tries: context.tries }
  })
