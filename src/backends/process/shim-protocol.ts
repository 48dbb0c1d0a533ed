import type { Socket } from 'node:net'
import type { Take } from '../backend.ts'
import type { ExitRecord } from './layout.ts'

/** To be raised with whatever an older host would pass over in an order: it is in the ids of hosts, and a worker gives orders to those of its own alone. */
export const PROTOCOL = 2

/** What a worker says to a shim host; one JSON object a line. */
export type HostOrder =
  | ({ do: 'start' } & StartOrder)
  | { do: 'cancel'; key: string }
  /** Answered by `started` when the host runs it, else by `unknown`. */
  | { do: 'ask'; key: string }
  /** `reader` follows the output from `offset` of the file on; the command is slowed to its pace. */
  | { do: 'attach'; key: string; reader: number; offset: number }
  | { do: 'read'; key: string; reader: number; offset: number }
  | { do: 'detach'; key: string; reader: number }

export interface StartOrder {
  key: string
  /** The attempt's directory. */
  dir: string
  /** The executable, absolute. Null when there are stages: a set-up may bring it. */
  file: string | null
  argv: string[]
  env: Record<string, string>
  cwd: string
  hasStdin: boolean
  timeoutMs: number | null
  killGraceMs: number
  /** Values that must not reach the disk by way of what the command prints or leaves as its output. */
  redact?: readonly string[]
  setUp?: readonly string[][]
  tearDown?: { commands: readonly string[][]; timeoutMs: number }
  take?: Take
  exportEnv?: boolean
}

/** What a shim host says to each worker that is connected. */
export type HostNews =
  | { is: 'hello' }
  | { is: 'started'; key: string; startedAt: number }
  /** It did not start; `errno` is the system's name of the error, or null. */
  | { is: 'refused'; key: string; errno: string | null; message: string }
  /** The host does not run it: it has ended, and its status is on the disk, or it never began. */
  | { is: 'unknown'; key: string }
  | { is: 'output'; key: string }
  | { is: 'ended'; key: string; exit: ExitRecord }

export function sendLine(socket: Socket, message: HostOrder | HostNews): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(message)}\n`)
}

/** Calls `onMessage` for every line. Both ends are the same program by the same user, so lines are taken as they are typed. */
export function onLines<T extends HostOrder | HostNews>(socket: Socket, onMessage: (message: T) => void): void {
  let parts: string[] = []
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = chunk.split('\n')
    const last = lines.pop() ?? ''
    for (const line of lines) {
      const whole = parts.join('') + line
      parts = []
      onMessage(JSON.parse(whole) as T)
    }
    if (last !== '') parts.push(last)
  })
}
