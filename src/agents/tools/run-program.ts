import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import type { Clock } from '../../base/clock.ts'
import { LIMITS } from '../../domain/limits.ts'

export interface ProgramWish {
  file: string
  args: readonly string[]
  /** All of its environment. */
  env: Record<string, string>
  cwd: string
  stdin: string
  maxOutputBytes: number
  clock: Clock
  /** Ends the program and all that it started. */
  signal: AbortSignal
  /** Lines of its standard error, as they come; what is more than a log takes is left out. */
  onLine(line: string): void
}

export interface ProgramEnd {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: Buffer
  /** It wrote more than allowed, and was ended for that. */
  isTooLarge: boolean
  /** The last of what it said beside its output. */
  tail: string
  /** What a sandbox wrote to descriptor 3. */
  status: string
  /** What the program itself wrote to descriptor 4. */
  told: string
}

const STATUS_BYTES = 64 * 1024
/** What a program wrote is there when it ends; so long it is waited for its streams to be closed. */
const STREAMS_MS = 1_000

/** Runs a program to its end, in a group of its own that ends with it. Throws only what starting it throws, and the reason of the signal. */
export async function runProgram(wish: ProgramWish): Promise<ProgramEnd> {
  const { signal } = wish
  signal.throwIfAborted()
  const child = spawn(wish.file, wish.args, {
    cwd: wish.cwd,
    env: wish.env,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  const { pid } = child
  const kill = (): void => {
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // All of the group ended by themselves.
    }
  }
  signal.addEventListener('abort', kill, { once: true })
  let isTooLarge = false
  const stdout = keepUpTo(child.stdout, wish.maxOutputBytes, () => {
    isTooLarge = true
    kill()
  })
  // Pipes, as asked for above.
  const status = keepUpTo(child.stdio[3] as Readable, STATUS_BYTES, kill)
  const told = keepUpTo(child.stdio[4] as Readable, STATUS_BYTES, kill)
  const tail = keepTail(child.stderr, wish.onLine)
  // A program need not read what it is given, or all of it.
  child.stdin.on('error', () => {})
  child.stdin.end(wish.stdin)
  const ended = new AbortController()
  // Something that left its group may hold its streams for as long as it likes.
  const letGo = (): void => {
    wish.clock.sleep(STREAMS_MS, ended.signal).then(
      () => {
        for (const stream of child.stdio) stream?.destroy()
      },
      () => {},
    )
  }
  try {
    const [code, ending] = await new Promise<[number | null, NodeJS.Signals | null]>((done, fail) => {
      child.once('error', fail)
      // What it left in the background would keep the pipes open, and is not part of the call any more.
      child.once('exit', () => {
        kill()
        letGo()
      })
      child.once('close', (exitCode, exitSignal) => done([exitCode, exitSignal]))
    })
    signal.throwIfAborted()
    return {
      code,
      signal: ending,
      stdout: stdout(),
      isTooLarge,
      tail: tail(),
      status: status().toString(),
      told: told().toString(),
    }
  } finally {
    ended.abort()
    signal.removeEventListener('abort', kill)
  }
}

function keepUpTo(stream: Readable, maxBytes: number, onMore: () => void): () => Buffer {
  const chunks: Buffer[] = []
  let size = 0
  stream.on('error', () => {})
  stream.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size <= maxBytes) chunks.push(chunk)
    else onMore()
  })
  return () => Buffer.concat(chunks)
}

/** Passes lines on up to a bound, and keeps the last of all. */
function keepTail(stream: Readable, onLine: (line: string) => void): () => string {
  let tail = ''
  let line = ''
  let left: number = LIMITS.logSegmentBytes
  stream.setEncoding('utf8')
  stream.on('error', () => {})
  stream.on('data', (text: string) => {
    tail = (tail + text).slice(-LIMITS.tailBytes)
    if (left <= 0) return
    const lines = (line + text.slice(0, left)).split('\n')
    left -= text.length
    line = lines.pop() ?? ''
    for (const whole of lines) onLine(whole)
    if (left <= 0) onLine('(what it says from here on is left out)')
  })
  stream.on('end', () => {
    if (line !== '' && left > 0) onLine(line)
  })
  return () => tail
}
