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

/** What becomes the output of a command that does not write it to the file named in `$ORRERY_OUTPUT`. */
export type Take =
  | { from: 'stdout' }
  /** A file below the workspace. */
  | { from: 'file'; path: string }

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
  /** Commands before the command itself, in the same workspace. The first that does not end with 0 ends the attempt, and the command does not run. */
  setUp?: readonly string[][]
  /** Commands after it, whatever happened before. All of them run, and together they have `timeoutMs`; nothing else cuts them short. */
  tearDown?: { commands: readonly string[][]; timeoutMs: number }
  take?: Take
  /** Set-up and command may leave variables in the file named in `$ORRERY_ENV`: those after them have them too, and `exported` tells them. */
  exportEnv?: boolean
  /**
   * Fills the workspace before anything runs. What it throws ends the attempt as `not_started`. A worker that dies over it leaves nothing: the attempt
   * never was. So does one that is told `attempt.stale_lease`, because it stops or the attempt is another's: no later life finds an end of it.
   */
  fill?: (workspace: string) => Promise<void>
}

export type Stage = 'setUp' | 'command' | 'tearDown'

/** How one command of an attempt with a set-up or a tear-down ended. */
export interface StageEnd {
  stage: Stage
  /** Counts the commands of a stage from 1. */
  number: number
  end: 'exited' | 'signaled' | 'timed_out' | 'canceled' | 'not_started'
  exitCode: number | null
  signal: string | null
  durationMs: number
  /** The end of its own output; only of a tear-down that did not end with 0. */
  tail?: string
  /** Why it never ran, or what is wrong with what it left. */
  failure?: FailureRecord
}

export type Taken =
  /** Where it lies, without secrets. */
  | { file: string }
  | { problem: 'absent' | 'outside' | 'no_file' | 'unreadable' }
  | { problem: 'too_large'; bytes: number }

/** What an attempt leaves beside its end. */
export interface CommandTraces {
  /** In the order in which they ran; only of attempts with a set-up or a tear-down. Those that never were to run are not there. */
  stages?: StageEnd[]
  /** What `take` asked for; only when the command ended with 0. */
  taken?: Taken
  /** What `exportEnv` asked for; only when the command ended with 0. No secret is in it. */
  exported?: Record<string, string>
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
  /** It ended with 0, and what it left cannot be used. */
  | { kind: 'unusable'; failure: FailureRecord; tail: string }
  /** It never ran: executable missing, workspace not writable and so on. */
  | { kind: 'not_started'; failure: FailureRecord }

export type EndOfCommand = CommandEnd & CommandTraces & { endedAt: number }

/** Whether a spec has more than the command itself. With stages, `CommandEnd` is about the last one that is no tear-down. */
export const isStaged = (spec: Pick<CommandSpec, 'setUp' | 'tearDown'>): boolean =>
  (spec.setUp?.length ?? 0) > 0 || (spec.tearDown?.commands.length ?? 0) > 0

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
  readonly ended: Promise<EndOfCommand>
  /** TERM, grace, KILL to the whole tree; safe to call twice. The tear-down follows; `ended` then says `canceled`. */
  cancel(): Promise<void>
  /** Forgets the attempt after its end was recorded: removes the workspace, or keeps it when the spec says so and the attempt failed. Gives the place and time when kept. */
  forget(outcome: { failed: boolean }): Promise<{ path: string; until: number } | null>
}
