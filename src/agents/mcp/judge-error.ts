import type * as Sdk from '@modelcontextprotocol/client'
import type { JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { ChildEnd } from './child-transport.ts'

/** What is known of the connection beside the error. */
export interface AtFault {
  /** `namespace/name` of the server. */
  server: string
  /** Address or command. */
  where: string
  /** Of a program: how it ended, when it has; null over HTTP. */
  end: ChildEnd | null
  complaint: string | null
  /** Secrets that it is shown, as `use: NAME/KEY`. */
  secrets: readonly string[]
}

const hasEnded = (end: ChildEnd): boolean => end.exitCode !== null || end.signal !== null

/** What an error of the connection means, as a failure of the catalogue. Errors of a call that the server answered are not asked about here. */
export function judgeConnection(sdk: typeof Sdk, error: unknown, at: AtFault): Failure {
  const evidence: JsonObject = { server: at.server, where: at.where }
  for (const cause of causesOf(error)) if (cause instanceof Failure) return withServer(cause, evidence)
  if (at.complaint !== null)
    return new Failure('mcp.protocol_error', `speaking with MCP server ${at.server}: ${at.complaint}`, { evidence })
  if (at.end && hasEnded(at.end)) {
    const { exitCode, signal, stderr } = at.end
    return new Failure('mcp.exited', `the program of MCP server ${at.server} ended`, {
      evidence: { ...evidence, exitCode, signal, stderr },
    })
  }
  const status = statusOf(sdk, error)
  if (status !== null) evidence['status'] = status
  if (isRefusal(sdk, error, status))
    return new Failure('mcp.auth_failed', `MCP server ${at.server} does not let us in`, {
      cause: error,
      evidence: { ...evidence, secrets: [...at.secrets] },
      ...(at.secrets.length === 0
        ? { remediation: 'Give the server http.auth or http.headers with a secret: it wants to know who asks.' }
        : {}),
    })
  const inner = innermost(error)
  const code = codeOf(inner)
  if (code !== null) evidence['error'] = code
  const options = { cause: inner, evidence }
  return isUnreachable(sdk, error, status)
    ? new Failure('mcp.unreachable', `reaching MCP server ${at.server}`, options)
    : new Failure('mcp.protocol_error', `speaking with MCP server ${at.server}`, options)
}

function withServer(failure: Failure, evidence: JsonObject): Failure {
  const remediation =
    failure.code === 'model.address_blocked'
      ? 'Set http.allowPrivateAddresses: true at the McpServer when it is meant to be there; else correct spec.http.url.'
      : failure.remediation
  return new Failure(failure.code, failure.message, {
    cause: failure.cause,
    evidence: { ...evidence, ...failure.evidence },
    remediation,
  })
}

function* causesOf(error: unknown): Generator {
  for (let at = error; at instanceof Error; at = at.cause) yield at
}

export function statusOf(sdk: typeof Sdk, error: unknown): number | null {
  for (const cause of causesOf(error)) if (sdk.SdkHttpError.isInstance(cause)) return cause.status
  return null
}

function isRefusal(sdk: typeof Sdk, error: unknown, status: number | null): boolean {
  if (status === 401 || status === 403) return true
  const kinds = [sdk.UnauthorizedError, sdk.OAuthClientFlowError, sdk.OAuthError]
  for (const cause of causesOf(error)) if (kinds.some((kind) => cause instanceof kind)) return true
  return false
}

function isUnreachable(sdk: typeof Sdk, error: unknown, status: number | null): boolean {
  if (status !== null) return status >= 500 || status === 408 || status === 429
  if (sdk.SdkError.isInstance(error) && isLoss(sdk, error)) return true
  return error instanceof TypeError || codeOf(innermost(error)) !== null
}

/** The link broke or was too slow: nobody said what would be wrong. */
export const isLoss = (sdk: typeof Sdk, error: unknown): boolean =>
  sdk.SdkError.isInstance(error) &&
  [
    sdk.SdkErrorCode.ConnectionClosed,
    sdk.SdkErrorCode.NotConnected,
    sdk.SdkErrorCode.RequestTimeout,
    sdk.SdkErrorCode.SendFailed,
  ].includes(error.code)

const codeOf = (error: unknown): string | null =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && /^(E[A-Z]|UND_ERR)/.test(error.code)
    ? error.code
    : null

const innermost = (error: unknown): unknown => [...causesOf(error)].at(-1) ?? error
