import type { Clock } from '../../base/clock.ts'
import type { ToolCallEnvelope, ToolResult } from '../../domain/agents/tool-envelope.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import type { Egress } from '../egress.ts'

/** What a call of a tool is given by whoever makes it. */
export interface ToolEnv {
  /** Ends the call; its reason is what is thrown then. */
  signal: AbortSignal
  egress: Egress
  clock: Clock
  /** The value behind a reference. Throws `secret.not_found` and the like. */
  secret(ref: { secret: string; key: string }): Promise<string>
  /** A directory that this call may write to; made when it is asked for, because few calls need one. */
  workdir(): Promise<string>
  /** A line that the tool said beside its result. */
  log(line: string): void
}

/** What a driver works with: the caller's, with secrets that are kept out of everything which comes back. */
export interface DriverEnv extends ToolEnv {
  /** A secret value that was learned on the way, such as a token. */
  hide(value: string): void
}

/** What one try gave. Of a failure it is known beside, where the driver can tell, whether another try repeats anything. */
export type TryResult =
  | Extract<ToolResult, { ok: true }>
  | (Extract<ToolResult, { ok: false }> & {
      /** False: nothing reached the tool, or it did nothing; another try repeats nothing. Left out: that is not known. */
      wasSent?: boolean
      /** When the tool wants to be called again. */
      retryAfterMs?: number
    })

/** One kind of tool. A driver makes one try; time, size, schemas, secrets and further tries are the runner's. It may throw a Failure. */
export interface ToolDriver {
  call(spec: ToolSpec, envelope: ToolCallEnvelope, env: DriverEnv): Promise<TryResult>
}
