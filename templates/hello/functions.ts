import type { FunctionContext } from 'orrery/sdk'

/** A function takes the step's `with` and gives the step's output. Both are JSON. */
export function greet(input: { name: string }, context: FunctionContext): { greeting: string } {
  context.log(`greeting ${input.name}`)
  return { greeting: `Hello, ${input.name}!` }
}

export function sum(input: { greetings: { greeting: string }[] }): { count: number; first: string | null } {
  return { count: input.greetings.length, first: input.greetings[0]?.greeting ?? null }
}
