/** The work of the benchmarks: none, or Windmill's fibonacci. Times are CLOCK_MONOTONIC, which all processes of a host share. */
export const noop = (): null => null

export const stamp = (): string => process.hrtime.bigint().toString()

const fibo = (n: number): number => (n <= 1 ? n : fibo(n - 1) + fibo(n - 2))
export const fibonacci = (input: { n: number }): { value: number; at: string } => ({
  value: fibo(input.n),
  at: process.hrtime.bigint().toString(),
})

/** Says that it began by a line in a file, then takes its time; for measuring recovery. */
export async function slow(input: { file: string; ms: number }, context: { signal: AbortSignal }): Promise<null> {
  const { appendFileSync } = await import('node:fs')
  appendFileSync(input.file, `${process.pid} ${process.hrtime.bigint()}\n`)
  const { setTimeout: sleep } = await import('node:timers/promises')
  await sleep(input.ms, undefined, { signal: context.signal })
  return null
}
