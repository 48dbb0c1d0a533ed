import type { Clock } from '../../base/clock.ts'
import type { Json } from '../../base/json.ts'
import { type Span, spanIdOf, type TraceContext, type Tracer } from '../../base/trace.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import type { Provider } from '../../domain/kinds/model-endpoint.ts'
import type { ModelEvent, ModelRequest, ModelResult } from '../../domain/model-call.ts'
import type { AgentHost, HostCall, LiveContext, ModelAt } from './agent-host.ts'

export interface Tracing {
  tracer: Tracer
  clock: Clock
  /** The attempt's span. */
  parent: TraceContext
}

/** Characters of one content in a span. */
const CONTENT_MAX = 32_768

/**
 * Names of providers as the GenAI semantic conventions have them.
 * @see https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/#gen-ai-provider-name
 */
const PROVIDER_NAMES: Record<Provider, string> = {
  openai: 'openai',
  anthropic: 'anthropic',
  'azure-openai': 'azure.ai.openai',
  bedrock: 'aws.bedrock',
  google: 'gcp.gemini',
  ollama: 'ollama',
  'openai-compatible': 'openai_compatible',
  mock: 'mock',
}

/** What data rules leave of a value; null when that cannot be said, and nothing of it may be shown. */
type Watched = (agent: string, value: unknown) => Json | null

/**
 * A host whose calls of models and tools are spans below the attempt's, by the GenAI semantic conventions. Nothing is changed, and nothing waits. Whatever of
 * models and tools stands in a span was looked at by the data rules that hold for the agent: a collector is one more place where data goes.
 */
export function tracedHost(host: AgentHost, tracing: Tracing): AgentHost {
  if (!tracing.tracer.isOn || !tracing.tracer.samplesChild(tracing.parent)) return host
  let live: LiveContext | null = null
  const watched: Watched = (agent, value) => {
    if (live === null) return null
    // What has no place in JSON has none in a span either.
    const plain = JSON.parse(JSON.stringify(value)) as Json
    try {
      const guard = live.guardOf(agent)
      return guard ? guard.watched(plain) : plain
    } catch (error) {
      if (error instanceof Failure) return null
      throw error
    }
  }
  return {
    namespace: host.namespace,
    runId: host.runId,
    traceparent: host.traceparent,
    get isLeaving() {
      return host.isLeaving
    },
    readJournal: () => host.readJournal(),
    append: (entries) => host.append(entries),
    context: async () => (live = await host.context()),
    discover: (agent, signal) => host.discover(agent, signal),
    model: (request, at) => tracedModel(host, { ...tracing, watched }, request, at),
    callTool: (call, signal) => tracedTool(host, { ...tracing, watched }, call, signal),
    show: (event) => host.show(event),
  }
}

type Looked = Tracing & { watched: Watched }

async function* tracedModel(
  host: AgentHost,
  tracing: Looked,
  request: ModelRequest,
  at: ModelAt,
): AsyncGenerator<ModelEvent, void> {
  let startedAt: number | null = null
  void at.goAhead.then((isWanted) => {
    if (isWanted) startedAt = tracing.clock.now()
  })
  let result: ModelResult | null = null
  // Left off before its end it is a call that was ended.
  let failure: string | null = 'canceled'
  try {
    for await (const event of host.model(request, at)) {
      if (event.type === 'finished') {
        result = event.result
        failure = null
      }
      yield event
    }
  } catch (error) {
    failure = at.signal.aborted ? 'canceled' : codeOf(error)
    throw error
  } finally {
    // What was made ready and never sent was no call.
    if (startedAt !== null)
      record(tracing, {
        id: `model ${at.idempotencyKey}`,
        name: `chat ${result?.model ?? at.endpoint}`,
        kind: 'client',
        startedAt,
        attributes: {
          ...modelAttributes(request, at.endpoint, result),
          ...modelContent(tracing, at.agent, request, result),
        },
        failure,
      })
  }
}

function modelAttributes(request: ModelRequest, endpoint: string, result: ModelResult | null): Span['attributes'] {
  const { maxTokens, temperature } = request
  return {
    'gen_ai.operation.name': 'chat',
    'orrery.endpoint': endpoint,
    ...(maxTokens === undefined ? {} : { 'gen_ai.request.max_tokens': maxTokens }),
    ...(temperature === undefined ? {} : { 'gen_ai.request.temperature': temperature }),
    ...(result === null
      ? {}
      : {
          'gen_ai.provider.name': PROVIDER_NAMES[result.provider],
          'gen_ai.request.model': result.model,
          'gen_ai.response.finish_reasons': JSON.stringify([result.finish]),
          'gen_ai.usage.input_tokens': result.usage.inputTokens,
          'gen_ai.usage.output_tokens': result.usage.outputTokens,
          'orrery.usage.is_estimated': result.usage.isEstimated,
          ...(result.cost
            ? { 'orrery.cost.amount': result.cost.amount, 'orrery.cost.currency': result.cost.currency }
            : {}),
        }),
  }
}

function modelContent(
  { tracer: { capturesContent }, watched }: Looked,
  agent: string,
  request: ModelRequest,
  result: ModelResult | null,
): Span['attributes'] {
  if (!capturesContent) return {}
  const said = result && [{ role: 'assistant', text: result.text, toolCalls: result.toolCalls }]
  return {
    ...content('gen_ai.input.messages', watched(agent, request.messages)),
    ...(said ? content('gen_ai.output.messages', watched(agent, said)) : {}),
  }
}

async function tracedTool(host: AgentHost, tracing: Looked, call: HostCall, signal: AbortSignal): Promise<ToolResult> {
  const { envelope, entry, agent } = call
  const watched = (value: unknown): Json | null => tracing.watched(agent ?? '', value)
  const startedAt = tracing.clock.now()
  let result: ToolResult | null = null
  let failure: string | null = 'canceled'
  try {
    result = await host.callTool(call, signal)
    failure = result.ok ? null : result.code
    return result
  } catch (error) {
    failure = signal.aborted ? 'canceled' : codeOf(error)
    throw error
  } finally {
    record(tracing, {
      id: `tool ${envelope.idempotencyKey}`,
      name: `execute_tool ${envelope.tool}`,
      kind: 'internal',
      startedAt,
      attributes: {
        'gen_ai.operation.name': 'execute_tool',
        'gen_ai.tool.name': envelope.tool,
        'gen_ai.tool.type': entry.source.by === 'memory' ? 'datastore' : 'extension',
        'gen_ai.tool.call.id': envelope.idempotencyKey.slice(envelope.idempotencyKey.indexOf('/') + 1),
        'orrery.tool.operation': envelope.operation,
        ...(agent === null ? {} : { 'gen_ai.agent.name': agent }),
        ...(result === null || result.ok
          ? {}
          : { tool_code: result.code, ...reasonOf(watched(result.reason)), retryable: result.retryable }),
        ...(tracing.tracer.capturesContent
          ? {
              ...content('gen_ai.tool.call.arguments', watched(envelope.input)),
              ...(result?.ok === true ? content('gen_ai.tool.call.result', watched(result.output)) : {}),
            }
          : {}),
      },
      failure,
    })
  }
}

const codeOf = (error: unknown): string => (error instanceof Failure ? error.code : 'internal.bug')

const content = (name: string, value: Json | null): Span['attributes'] =>
  value === null ? {} : { [name]: JSON.stringify(value).slice(0, CONTENT_MAX) }

const reasonOf = (value: Json | null): Span['attributes'] => (typeof value === 'string' ? { tool_reason: value } : {})

function record(
  { tracer, clock, parent }: Tracing,
  { id, ...span }: Pick<Span, 'name' | 'kind' | 'startedAt' | 'attributes' | 'failure'> & { id: string },
): void {
  tracer.record({
    ...parent,
    // A call that is made again after a crash has the same key: under another attempt it is another span.
    spanId: spanIdOf(`${parent.spanId} ${id}`),
    parentSpanId: parent.spanId,
    endedAt: clock.now(),
    ...span,
  })
}
