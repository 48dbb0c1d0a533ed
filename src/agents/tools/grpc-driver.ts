import type * as GrpcLibrary from '@grpc/grpc-js'
import type { Client, Metadata, ServiceError } from '@grpc/grpc-js'
import { isIP, isIPv6 } from 'node:net'
import { assert } from '../../base/assert.ts'
import type { Json } from '../../base/json.ts'
import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import { isObject } from '../../domain/placed-problem.ts'
import { fillHeaders, fillJson } from './fill-templates.ts'
import { findMethod, type ProtoMethod } from './proto-method.ts'
import { withRemedy } from './send-request.ts'
import type { ToolAuth } from './tool-auth.ts'
import type { DriverEnv, ToolDriver, TryResult } from './tool-driver.ts'

type Grpc = typeof GrpcLibrary
type GrpcBlock = NonNullable<ToolSpec['grpc']>

/** One call of a method that takes a message and gives one. The library is loaded when such a tool is first called. */
export const createGrpcDriver = (auth: ToolAuth): ToolDriver => ({
  async call(spec, envelope, env) {
    const { grpc } = spec
    assert(grpc, 'a grpc tool has its block')
    const [library, method] = await Promise.all([import('@grpc/grpc-js'), findMethod(grpc)])
    const request = grpc.request === undefined ? envelope.input : fillJson(grpc.request, envelope.input)
    if (!isObject(request)) throw new Failure('tool.invalid_input', 'grpc.request must be a map')
    const bytes = method.encode(request)
    const own = fillHeaders(grpc.metadata, envelope.input)
    const client = await connect(library, grpc, spec, env)
    const cancel = (): void => client.close()
    env.signal.addEventListener('abort', cancel, { once: true })
    try {
      const unreached = await untilReady(library, client, grpc, { envelope, env })
      if (unreached) return unreached
      for (let isFirst = true; ; isFirst = false) {
        const shown = await auth.show(spec, env)
        const metadata = metadataOf(library, own, envelope)
        if (shown.header) metadata.set(shown.header.name, shown.header.value)
        const deadline = env.clock.now() + envelope.timeoutMs
        const told = await ask(client, method, bytes, { metadata, deadline, signal: env.signal })
        if ('output' in told) return { ok: true, output: told.output }
        if (told.error.code === library.status.UNAUTHENTICATED && shown.refused && isFirst) shown.refused()
        else return refusedBy(library, told.error, grpc, spec)
      }
    } finally {
      env.signal.removeEventListener('abort', cancel)
      client.close()
    }
  },
})

/** To the address that was looked at, under the name that the manifest gives: of the certificate too. */
async function connect(library: Grpc, grpc: GrpcBlock, spec: ToolSpec, env: DriverEnv): Promise<Client> {
  const at = grpc.target.lastIndexOf(':')
  const [host, port] = [grpc.target.slice(0, at), grpc.target.slice(at + 1)]
  const policy = { allowPrivate: spec.allowPrivateAddresses, onlyPrivate: false }
  const address = await env.egress.addressOf(host, policy).catch((error: unknown) => {
    if (error instanceof Failure) throw withRemedy(error)
    throw new Failure('tool.failed', `looking for the address of ${host}`, {
      cause: error,
      evidence: { target: grpc.target },
    })
  })
  const name = host.replace(/^\[(.*)\]$/, '$1')
  return new library.Client(
    isIPv6(address) ? `ipv6:[${address}]:${port}` : `ipv4:${address}:${port}`,
    grpc.tls ? library.credentials.createSsl() : library.credentials.createInsecure(),
    {
      'grpc.default_authority': grpc.target,
      ...(isIP(name) === 0 ? { 'grpc.ssl_target_name_override': name } : {}),
      'grpc.max_receive_message_length': spec.maxOutputBytes,
      // Nothing else is asked where to go, and no try is made that is not ours.
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_retries': 0,
      'grpc.use_local_subchannel_pool': 1,
    },
  )
}

/** Waits for a connection, so that it is known whether anything was sent. Null: there is one. */
async function untilReady(
  library: Grpc,
  client: Client,
  { target }: GrpcBlock,
  { envelope, env }: { envelope: ToolCallEnvelope; env: DriverEnv },
): Promise<TryResult | null> {
  const channel = client.getChannel()
  const deadline = env.clock.now() + envelope.timeoutMs
  for (;;) {
    env.signal.throwIfAborted()
    const state = channel.getConnectivityState(true)
    if (state === library.connectivityState.READY) return null
    if (state === library.connectivityState.TRANSIENT_FAILURE || state === library.connectivityState.SHUTDOWN)
      return {
        ok: false,
        code: 'tool.failed',
        reason: `${target} could not be reached`,
        retryable: true,
        wasSent: false,
        evidence: { target },
      }
    const isLate = await new Promise<boolean>((done) =>
      channel.watchConnectivityState(state, deadline, (error) => done(error !== undefined)),
    )
    // Asked again it would say so at once, for ever.
    if (isLate)
      return {
        ok: false,
        code: 'tool.timeout',
        reason: `${target} was not reached within ${envelope.timeoutMs} ms`,
        retryable: true,
        wasSent: false,
        evidence: { target, timeoutMs: envelope.timeoutMs },
      }
  }
}

function metadataOf(library: Grpc, own: Record<string, string>, envelope: ToolCallEnvelope): Metadata {
  const metadata = new library.Metadata()
  const { idempotencyKey, context } = envelope
  const all = { 'idempotency-key': idempotencyKey, traceparent: context.traceparent, ...own }
  for (const [name, value] of Object.entries(all)) metadata.set(name, value)
  return metadata
}

function ask(
  client: Client,
  method: ProtoMethod,
  bytes: Buffer,
  { metadata, deadline, signal }: { metadata: Metadata; deadline: number; signal: AbortSignal },
): Promise<{ output: Json } | { error: ServiceError }> {
  return new Promise((done) => {
    const call = client.makeUnaryRequest<Buffer, Json>(
      method.path,
      (value) => value,
      (value) => method.decode(value),
      bytes,
      metadata,
      { deadline },
      (error, output) => {
        signal.removeEventListener('abort', cancel)
        done(error ? { error } : { output: output ?? null })
      },
    )
    // A client that is closed lets calls under way go on: the service is told that nobody waits any more.
    const cancel = (): void => call.cancel()
    signal.addEventListener('abort', cancel, { once: true })
  })
}

/** How the library begins what it says of a message beyond the bound that it was given; the status alone does not tell it from a refusal. */
const TOO_LARGE = 'Received message larger than max'

function refusedBy(library: Grpc, error: ServiceError, { target, method }: GrpcBlock, spec: ToolSpec): TryResult {
  const { status } = library
  const name = status[error.code] ?? String(error.code)
  if (error.code === status.RESOURCE_EXHAUSTED && error.details.startsWith(TOO_LARGE))
    throw new Failure('tool.invalid_output', `the answer of ${target} is larger than ${spec.maxOutputBytes} bytes`, {
      evidence: { maxOutputBytes: spec.maxOutputBytes },
    })
  const passes = [status.UNAVAILABLE, status.RESOURCE_EXHAUSTED, status.ABORTED, status.DEADLINE_EXCEEDED]
  const isAuth = error.code === status.UNAUTHENTICATED || error.code === status.PERMISSION_DENIED
  return {
    ok: false,
    code: isAuth ? 'tool.auth_failed' : error.code === status.DEADLINE_EXCEEDED ? 'tool.timeout' : 'tool.failed',
    reason: `${target} answered ${method} with ${name}: ${error.details}`,
    retryable: passes.includes(error.code),
    ...(error.code === status.UNAUTHENTICATED ? { wasSent: false } : {}),
    evidence: { target, status: name, details: error.details.slice(0, 2_000) },
  }
}
