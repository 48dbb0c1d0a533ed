import { nearest } from '../../base/nearest.ts'
import type { Json, JsonObject } from '../../base/json.ts'
import type { ToolCallEnvelope, ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import { schemaProblems, validateJson } from '../../domain/json-schema.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isLoss, statusOf } from './judge-error.ts'
import type { Link, McpSession } from './mcp-session.ts'
import type { KnownTool } from './offered-tools.ts'
import { outputOf, textOfContent } from './tool-output.ts'

/** Under which a call's idempotency key travels; servers that know it do the work once. */
const IDEMPOTENCY_KEY = 'dev.orrery/idempotency-key'

type Refused = Extract<ToolResult, { ok: false }>
/** Null where the connection was lost on the way; `wasDone` says whether the call may have been carried out all the same. */
type Tried = { result: ToolResult } | { result: null; failure: Failure; wasDone: boolean }

/**
 * Calls a tool. Lost on the way, a call is made once more over a new connection when that repeats nothing, or the tool may be repeated: with the same
 * idempotency key. Throws only the signal's reason.
 */
export async function callMcpTool(
  session: McpSession,
  name: string,
  envelope: ToolCallEnvelope,
  { signal, repeatable }: { signal: AbortSignal; repeatable?: boolean },
): Promise<ToolResult> {
  for (let isAgain = false; ; isAgain = true) {
    let tool: KnownTool | null = null
    let link: Link
    try {
      const ready = await session.ready(signal)
      link = ready.link
      tool = ready.tools.get(name) ?? null
      if (tool === null) return unknownTool(session, name, [...ready.tools.keys()])
    } catch (error) {
      signal.throwIfAborted()
      return refusedBy(error)
    }
    const wrong = problemsOf(envelope.input, tool.checked.input, 'input')
    if (wrong) return invalid('tool.invalid_input', tool, wrong)
    const tried = await tryOnce(session, link, tool, envelope, signal)
    if (tried.result !== null) return tried.result
    await session.drop(link)
    const mayRepeat = !tried.wasDone || (repeatable ?? tool.traits.repeatable)
    if (!isAgain && mayRepeat) continue
    const refused = refusedBy(tried.failure)
    if (mayRepeat) return refused
    const reason = `${refused.reason}; the call may have been carried out`
    return { ...refused, reason, retryable: false, evidence: { ...refused.evidence, outcome: 'unknown' } }
  }
}

async function tryOnce(
  session: McpSession,
  link: Link,
  tool: KnownTool,
  envelope: ToolCallEnvelope,
  signal: AbortSignal,
): Promise<Tried> {
  const { sdk, client, http } = link
  const timeout = Math.min(envelope.timeoutMs, tool.traits.timeoutMs)
  const hadSession = http?.sessionId !== undefined
  try {
    const result = await client.callTool(
      {
        name: tool.name,
        arguments: envelope.input,
        _meta: { [IDEMPOTENCY_KEY]: envelope.idempotencyKey, traceparent: envelope.context.traceparent },
      },
      { timeout, maxTotalTimeout: timeout, signal },
    )
    return { result: judgeResult(session, tool, result) }
  } catch (error) {
    signal.throwIfAborted()
    const { redactor } = session
    const say = (message: string): string => shortened(redactor.text(message))
    if (sdk.SdkError.isInstance(error) && error.code === sdk.SdkErrorCode.RequestTimeout)
      return { result: timedOut(tool, timeout) }
    if (sdk.ProtocolError.isInstance(error)) {
      const isInput = error.code === Number(sdk.ProtocolErrorCode.InvalidParams)
      const code = isInput ? 'tool.invalid_input' : 'tool.failed'
      const reason = `${tool.offered.name}: ${say(error.message)}`
      return { result: { ok: false, code, reason, retryable: false, evidence: { error: error.code } } }
    }
    if (sdk.SdkError.isInstance(error) && error.code === sdk.SdkErrorCode.UnsupportedResultType)
      return { result: asksPerson(tool) }
    // A session that the server no longer knows: it was started anew, and looked at nothing.
    if (hadSession && statusOf(sdk, error) === 404)
      return { result: null, failure: session.judge(link, sdk, error), wasDone: false }
    const failure = session.judge(link, sdk, error)
    if (isLoss(sdk, error) || FAILURES[failure.code].retry === 'later')
      return { result: null, failure, wasDone: !wasNeverSent(failure) }
    return { result: refusedBy(failure) }
  }
}

/** Nobody was there to take it. */
const wasNeverSent = ({ evidence }: Failure): boolean =>
  ['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'].includes(
    String(evidence?.['error']),
  )

function judgeResult(
  { of: { spec }, redactor }: McpSession,
  tool: KnownTool,
  result: Parameters<typeof outputOf>[0] & { isError?: boolean | undefined },
): ToolResult {
  if (result.isError) {
    const said = shortened(redactor.text(textOfContent(result.content)))
    return {
      ok: false,
      code: 'tool.failed',
      reason: `${tool.offered.name}: ${said === '' ? 'failed without a word' : said}`,
      retryable: false,
    }
  }
  const output = redactor.json(outputOf(result))
  const bytes = Buffer.byteLength(typeof output === 'string' ? output : JSON.stringify(output))
  if (bytes > spec.outputBytes)
    return {
      ok: false,
      code: 'tool.invalid_output',
      reason: `the output of ${tool.offered.name} is larger than ${spec.outputBytes} bytes`,
      retryable: false,
      evidence: { bytes, outputBytes: spec.outputBytes },
    }
  const outputSchema = tool.checked.output
  const wrong =
    outputSchema && result.structuredContent !== undefined ? problemsOf(output, outputSchema, 'output') : null
  return wrong ? invalid('tool.invalid_output', tool, wrong) : { ok: true, output }
}

const PROBLEMS_SHOWN = 20

/** What is wrong with a value; null when nothing is, or the server's schema is of a kind that only the server can check. */
function problemsOf(value: Json, schema: JsonObject, root: 'input' | 'output'): JsonObject[] | null {
  if (schemaProblems(schema).length > 0) return null
  const problems = validateJson(value, schema, { mode: 'plain', code: `tool.invalid_${root}`, root })
  return problems.length === 0 ? null : problems.slice(0, PROBLEMS_SHOWN).map((problem) => ({ ...problem }))
}

function invalid(
  code: 'tool.invalid_input' | 'tool.invalid_output',
  tool: KnownTool,
  problems: JsonObject[],
): ToolResult {
  const [first] = problems
  const reason = shortened(`${tool.offered.name}: ${String(first?.['path'])} ${String(first?.['message'])}`)
  return { ok: false, code, reason, retryable: false, evidence: { problems } }
}

function unknownTool({ of: { name: server } }: McpSession, name: string, known: string[]): ToolResult {
  const near = nearest(name, known)
  return {
    ok: false,
    code: 'tool.unknown',
    reason: `${server} offers no tool ${name}${near === null ? '' : `; did you mean ${near}?`}`,
    retryable: false,
    evidence: { tools: known.slice(0, LIMITS.problemsMax) },
  }
}

const timedOut = (tool: KnownTool, timeoutMs: number): ToolResult => ({
  ok: false,
  code: 'tool.timeout',
  reason: `${tool.offered.name} did not end within ${timeoutMs} ms`,
  retryable: tool.traits.repeatable,
  evidence: { timeoutMs },
})

const asksPerson = (tool: KnownTool): ToolResult => ({
  ok: false,
  code: 'tool.failed',
  reason: `${tool.offered.name} asks for input of a person in the middle of a call, and nobody is there`,
  retryable: false,
})

export function refusedBy(error: unknown): Refused {
  if (!(error instanceof Failure)) throw error
  const { code, message, cause, evidence } = error.toRecord()
  return {
    ok: false,
    code,
    reason: shortened([message, cause?.message].filter((part) => part).join(': ')),
    retryable: FAILURES[code].retry === 'later',
    ...(evidence ? { evidence } : {}),
  }
}

const REASON_CHARS = 2_000

function shortened(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length > REASON_CHARS ? `${line.slice(0, REASON_CHARS)}…` : line
}
