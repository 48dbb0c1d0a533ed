// What workers of the scenarios load: functions that wait for a file, so that a test decides when they end.
import { appendFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FunctionContext } from '../../src/sdk/index.ts'

const LOOK_MS = 20

export const echo = (input: unknown): unknown => input

export const fail = (): never => {
  throw new Error('broken on purpose')
}

/** Fails until the file is there. */
export const failUnless = ({ file }: { file: string }): string => {
  if (!existsSync(file)) throw new Error(`${file} is not there`)
  return 'mended'
}

export interface Gate {
  dir: string
  name: string
  /** Goes on after a cancel, to come with its result when it is too late. */
  isDeaf?: boolean
}

/** Notes that it began, waits until `<name>.go` is there, notes its end. */
export async function gate(input: Gate, context: FunctionContext): Promise<{ name: string; pid: number }> {
  const { dir, name, isDeaf = false } = input
  const note = (what: string) => appendFileSync(join(dir, `${name}.${what}`), `${context.attemptKey} ${process.pid}\n`)
  note('began')
  while (!existsSync(join(dir, `${name}.go`))) {
    if (context.signal.aborted && !isDeaf) {
      note('stopped')
      throw new Error('stopped')
    }
    await sleep(LOOK_MS)
  }
  note('ended')
  return { name, pid: process.pid }
}

/** Takes its own worker down, as a native module or a lack of memory would; mended by the file. */
export const crashUnless = ({ file }: { file: string }): string => {
  if (!existsSync(file)) process.kill(process.pid, 'SIGKILL')
  return 'mended'
}
