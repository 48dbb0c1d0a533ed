import { assert } from '../../base/assert.ts'
import { backoffMs } from '../../base/backoff.ts'
import type { Clock } from '../../base/clock.ts'
import { createDeadlines, type Deadlines } from '../../base/deadlines.ts'
import { deferred } from '../../base/deferred.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import { linkedAbort } from '../../base/linked-abort.ts'
import type { Random } from '../../base/random.ts'
import { Redactor } from '../../base/redact.ts'
import type { ToolCallEnvelope, ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure, type Problem } from '../../domain/failure.ts'
import { validateJson } from '../../domain/json-schema.ts'
import { isRepeatable, type ToolSpec } from '../../domain/kinds/tool.ts'
import { LIMITS } from '../../domain/limits.ts'
import { createCallbackDriver } from './callback-driver.ts'
import { createCommandDriver } from './command-driver.ts'
import { createExternalDriver } from './external-driver.ts'
import { createGrpcDriver } from './grpc-driver.ts'
import { createHttpDriver } from './http-driver.ts'
import { resultOfFailure } from './result-of-failure.ts'
import { createToolAuth } from './tool-auth.ts'
import { createWasmDriver } from './wasm-driver.ts'
import type { ToolDriver, ToolEnv, TryResult } from './tool-driver.ts'
import { NO_PROGRAMS, type ToolPrograms } from './tool-programs.ts'

/** Tools of these types are runs below the step: the turn loop parks for them. */
export type DrivenType = Exclude<ToolSpec['type'], 'agent' | 'workflow'>

export interface ToolRunner {
  /**
   * Calls a tool: checks its input and output, tries again what passes by itself, and gives whatever happened as a result. Throws only the
   * reason of `env.signal`. Nothing that comes back has a secret in it that the call was given. `drivers` are those that the caller alone has: of what its
   * run is bound to.
   */
  call(
    tool: string,
    spec: ToolSpec,
    envelope: ToolCallEnvelope,
    env: ToolEnv,
    drivers?: ToolRunnerDeps['drivers'],
  ): Promise<{ result: ToolResult; tries: number }>
}

export interface ToolRunnerDeps {
  clock: Clock
  random: Random
  /** Ends tries that take too long; of the clock when absent. */
  deadlines?: Deadlines
  /** What the host has for tools that are programs; left out: nothing, and nothing runs without isolation. */
  programs?: ToolPrograms
  /** Instead of those that there are. */
  drivers?: Partial<Record<DrivenType, ToolDriver>>
}

export function createToolRunner(given: ToolRunnerDeps): ToolRunner {
  const auth = createToolAuth(given.clock)
  const drivers: ToolRunnerDeps['drivers'] = {
    http: createHttpDriver(auth),
    external: createExternalDriver(auth),
    callback: createCallbackDriver(auth),
    grpc: createGrpcDriver(auth),
    command: createCommandDriver(given.programs ?? NO_PROGRAMS),
    wasm: createWasmDriver(given.programs ?? NO_PROGRAMS),
    ...given.drivers,
  }
  const deps = { ...given, drivers, deadlines: given.deadlines ?? createDeadlines(given.clock) }
  return {
    async call(tool, spec, envelope, env, own) {
      env.signal.throwIfAborted()
      const parts = { ...deps, drivers: { ...deps.drivers, ...own } }
      const wrong = problemsOf(envelope.input, spec.inputSchema, 'input')
      if (wrong.length > 0) return { result: refused('tool.invalid_input', tool, wrong), tries: 0 }
      const { retry } = spec
      for (let tries = 1; ; tries++) {
        const timeoutMs = Math.min(spec.timeout, envelope.timeoutMs)
        const tried = await tryOnce(parts, spec, { ...envelope, tool, attempt: tries, timeoutMs }, env)
        if (tried.ok) return { result: tried, tries }
        const { wasSent, retryAfterMs, ...result } = tried
        const delayMs =
          retryAfterMs ?? backoffMs({ ...retry, initialMs: retry.initial, maxMs: retry.maxDelay }, tries, deps.random)
        const mayRepeat = isRepeatable(spec) || wasSent === false
        if (result.retryable && !mayRepeat) return { result: unknownOutcome(result), tries }
        if (!result.retryable || tries > retry.max || delayMs > retry.maxDelay) return { result, tries }
        env.log(`${tool}: try ${tries} failed (${result.code}: ${result.reason}); again in ${delayMs} ms`)
        await deps.clock.sleep(delayMs, env.signal)
      }
    },
  }
}

/** Nobody is told to make a call once more that may have been carried out, and must not be twice. */
const unknownOutcome = (result: Extract<ToolResult, { ok: false }>): ToolResult => ({
  ...result,
  reason: `${result.reason}; the call may have been carried out`,
  retryable: false,
  evidence: { ...result.evidence, outcome: 'unknown' },
})

async function tryOnce(
  deps: ToolRunnerDeps & { deadlines: Deadlines },
  spec: ToolSpec,
  envelope: ToolCallEnvelope,
  env: ToolEnv,
): Promise<TryResult> {
  assert(spec.type !== 'agent' && spec.type !== 'workflow', `tool ${envelope.tool} is a run below, not a call`)
  const driver = deps.drivers?.[spec.type]
  assert(driver, `no driver for tools of type ${spec.type}`)
  const hidden = new Set<string>()
  // Whoever does not listen to the signal is left behind: the caller waits no longer than it said.
  const over = deferred<TryResult>()
  over.promise.catch(() => {})
  const ending = linkedAbort(env.signal, (reason) => over.reject(reason))
  let redactor = new Redactor([])
  const hide = (value: string): void => {
    hidden.add(value)
    redactor = new Redactor(hidden)
  }
  const given = {
    ...env,
    signal: ending.signal,
    hide,
    secret: async (ref: { secret: string; key: string }) => {
      const value = await env.secret(ref)
      hide(value)
      return value
    },
    log: (line: string) => env.log(redactor.text(line)),
  }
  const leave = deps.deadlines.add(envelope.timeoutMs, () => {
    over.resolve(timedOut(envelope))
    ending.abort(new Failure('tool.timeout', `calling tool ${envelope.tool}`))
  })
  try {
    const work = driver.call(spec, envelope, given).catch((error: unknown) => resultOfError(envelope.tool, error))
    const tried = await Promise.race([work, over.promise])
    env.signal.throwIfAborted()
    return checked(spec, envelope, withoutSecrets(tried, redactor))
  } finally {
    leave()
    ending.end()
  }
}

const timedOut = ({ tool, timeoutMs }: ToolCallEnvelope): TryResult => ({
  ok: false,
  code: 'tool.timeout',
  reason: `${tool} did not end within ${timeoutMs} ms`,
  retryable: true,
  evidence: { timeoutMs },
})

/** What a driver threw instead of saying it. */
function resultOfError(tool: string, error: unknown): TryResult {
  if (!(error instanceof Failure)) {
    const message = error instanceof Error ? error.message : String(error)
    return { ok: false, code: 'tool.failed', reason: `${tool}: ${message}`, retryable: false }
  }
  return { ...resultOfFailure(error), wasSent: false }
}

/** Redacted before it is shortened, so that no secret is cut in two. */
function withoutSecrets(tried: TryResult, redactor: Redactor): TryResult {
  if (tried.ok) return { ok: true, output: redactor.json(tried.output) }
  const reason = redactor.text(tried.reason).replaceAll(/\s+/g, ' ').trim()
  const short = reason.length > LIMITS.toolReasonChars ? `${reason.slice(0, LIMITS.toolReasonChars)}…` : reason
  return { ...tried, reason: short, ...(tried.evidence ? { evidence: redactor.json(tried.evidence) } : {}) }
}

function checked(spec: ToolSpec, { tool }: ToolCallEnvelope, tried: TryResult): TryResult {
  if (!tried.ok) return tried
  const bytes = Buffer.byteLength(JSON.stringify(tried.output))
  // Of a text the quotes and escapes around it are not the tool's.
  const own = typeof tried.output === 'string' ? Buffer.byteLength(tried.output) : bytes
  if (own > spec.maxOutputBytes) return tooLarge(tool, spec.maxOutputBytes)
  const wrong = spec.outputSchema ? problemsOf(tried.output, spec.outputSchema, 'output') : []
  return wrong.length > 0 ? refused('tool.invalid_output', tool, wrong) : tried
}

/** An output that was not read to its end, or would not be kept. */
const tooLarge = (tool: string, maxOutputBytes: number): TryResult => ({
  ok: false,
  code: 'tool.invalid_output',
  reason: `the output of ${tool} is larger than ${maxOutputBytes} bytes`,
  retryable: false,
  evidence: { maxOutputBytes },
})

function problemsOf(value: Json, schema: JsonObject, root: 'input' | 'output'): Problem[] {
  return validateJson(value, schema, { mode: 'plain', code: `tool.invalid_${root}`, root })
}

const PROBLEMS_SHOWN = 20

function refused(
  code: 'tool.invalid_input' | 'tool.invalid_output',
  tool: string,
  problems: Problem[],
): TryResult & ToolResult {
  const [first] = problems
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''
  return {
    ok: false,
    code,
    reason: `${tool}: ${first?.path} ${first?.message}${more}`.slice(0, LIMITS.toolReasonChars),
    retryable: false,
    evidence: { problems: problems.slice(0, PROBLEMS_SHOWN).map((problem) => ({ ...problem })) },
  }
}
