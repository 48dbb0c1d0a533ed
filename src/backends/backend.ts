import type { FailureRecord } from '../domain/failure.ts'

/**
 * How an attempt of a command is isolated. `start` is idempotent by attempt key: a second start of a key finds the first.
 * Everything a later process needs to adopt the work lies below the workspace root, so that a worker killed with `kill -9`
 * loses neither output nor exit status.
 */
export interface Backend {
  readonly name: 'process' | 'scripted'
  start(spec: CommandSpec): Promise<CommandHandle>
  /** Commands of an earlier life of this worker: still running, or ended and not yet forgotten. */
  recover(): Promise<CommandHandle[]>
  /** Removes kept workspaces that are over; returns how many. Also done when the backend is created. */
  sweepKept(): Promise<number>
  /** Releases what the backend itself holds. Running commands go on. */
  close(): Promise<void>
}

export interface CommandSpec {
  /** `<step id>@<fence>`: names the attempt for ever. */
  key: string
  argv: string[]
  /** The whole environment of the child, ORRERY_* variables included; nothing is inherited. */
  env: Record<string, string>
  stdin: string | null
  /** Relative to the workspace, or absolute. */
  workdir: string | null
  /** Null: no limit. TERM, then after the grace KILL, to every process of the attempt. */
  timeoutMs: number | null
  killGraceMs: number
  /** Keep the workspace after a failure for this long; null removes it at once. */
  keepOnFailureMs: number | null
  /** Opaque; handed back by `recover()`. */
  note: string
  /** Values that neither output, tail nor output file may hold, whatever the command does; also when the worker has died meanwhile. */
  redact?: readonly string[]
}

export interface OutputSegment {
  /** From 1; survives adoption without a gap or a repeat of acknowledged segments. */
  index: number
  stream: 'stdout' | 'stderr' | 'system'
  /** ms since the epoch of the segment's first byte. */
  at: number
  text: string
}

export type CommandEnd =
  | { kind: 'exited'; exitCode: number; tail: string; outputFile: string | null }
  | { kind: 'signaled'; signal: string; tail: string; outputFile: string | null }
  | { kind: 'timed_out'; timeoutMs: number; exitCode: number | null; signal: string | null; tail: string }
  | { kind: 'canceled'; tail: string }
  /** The process is gone and left no status. */
  | { kind: 'lost'; tail: string }
  /** It never ran: executable missing, workspace not writable and so on. */
  | { kind: 'not_started'; failure: FailureRecord }

export interface CommandHandle {
  readonly key: string
  readonly note: string
  /** ms since the epoch; null when it never started. */
  readonly startedAt: number | null
  /** Where the attempt works. */
  readonly workspace: string
  /** Output from segment `after + 1` on, in order; ends when the command has ended and everything was read. Back-pressure: what is not pulled is not read. */
  output(after: number): AsyncIterable<OutputSegment>
  /** Resolves once; also for commands that ended before they were recovered. */
  readonly ended: Promise<CommandEnd & { endedAt: number }>
  /** TERM, grace, KILL to the whole tree; safe to call twice. `ended` then says `canceled`. */
  cancel(): Promise<void>
  /** Forgets the attempt after its end was recorded: removes the workspace, or keeps it when the spec says so and the attempt failed. Gives the place and time when kept. */
  forget(outcome: { failed: boolean }): Promise<{ path: string; until: number } | null>
}
