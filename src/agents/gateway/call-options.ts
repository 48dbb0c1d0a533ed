import type {
  JSONSchema7,
  LanguageModelV4CallOptions,
  LanguageModelV4Message,
  SharedV4ProviderOptions,
} from '@ai-sdk/provider'
import type { ModelEndpointSpec } from '../../domain/kinds/model-endpoint.ts'
import type { ModelMessage, ModelRequest } from '../../domain/model-call.ts'
import type { ToolNames } from './tool-names.ts'

/** The request as the packages of the providers take it, with the endpoint's defaults for what it does not say. */
export function callOptionsOf(
  request: ModelRequest,
  spec: ModelEndpointSpec,
  names: ToolNames,
): Omit<LanguageModelV4CallOptions, 'abortSignal'> {
  const { defaults } = spec
  const maxOutputTokens = request.maxTokens ?? defaults.maxTokens
  const temperature = request.temperature ?? defaults.temperature
  const topP = request.topP ?? defaults.topP
  const seed = request.seed ?? defaults.seed
  const stop = request.stop ?? defaults.stop
  return {
    prompt: promptOf(request.messages, spec, names),
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(seed === undefined ? {} : { seed }),
    ...(stop === undefined ? {} : { stopSequences: [...stop] }),
    ...toolsOf(request, names),
    ...(request.output
      ? {
          responseFormat: {
            type: 'json',
            schema: request.output.schema as JSONSchema7, // a schema that somebody wrote; the answer is checked here
            name: request.output.name ?? 'answer',
          },
          // Schemas that people write are rarely of the narrow form that the strict mode of providers demands.
          providerOptions: { openai: { strictJsonSchema: false }, compatible: { strictJsonSchema: false } },
        }
      : {}),
  }
}

function toolsOf({ tools = [], toolChoice }: ModelRequest, names: ToolNames): Partial<LanguageModelV4CallOptions> {
  if (tools.length === 0) return {}
  return {
    tools: tools.map(({ name, description, inputSchema }) => ({
      type: 'function',
      name: names.sent(name),
      ...(description === undefined ? {} : { description }),
      inputSchema: inputSchema as JSONSchema7, // as above: inputs are checked before a tool is called
    })),
    ...(toolChoice === undefined
      ? {}
      : {
          toolChoice:
            typeof toolChoice === 'string'
              ? { type: toolChoice }
              : { type: 'tool', toolName: names.sent(toolChoice.tool) },
        }),
  }
}

function promptOf(
  messages: readonly ModelMessage[],
  spec: ModelEndpointSpec,
  names: ToolNames,
): LanguageModelV4Message[] {
  const mark = cacheMark(spec)
  const lastSystem = messages.findLastIndex(({ role }) => role === 'system')
  return messages.map((message, i) => ({
    ...messageOf(message, names),
    // What stands before a mark is kept: the instructions for all calls, the conversation for its next turn.
    ...(mark && (i === lastSystem || i === messages.length - 1) ? { providerOptions: mark } : {}),
  }))
}

function messageOf(message: ModelMessage, names: ToolNames): LanguageModelV4Message {
  switch (message.role) {
    case 'system':
      return { role: 'system', content: message.text }
    case 'user':
      return { role: 'user', content: [{ type: 'text', text: message.text }] }
    case 'assistant':
      return {
        role: 'assistant',
        content: [
          ...(message.text ? [{ type: 'text' as const, text: message.text }] : []),
          ...(message.toolCalls ?? []).map((call) => ({
            type: 'tool-call' as const,
            toolCallId: call.id,
            toolName: names.sent(call.name),
            input: call.input ?? {},
          })),
        ],
      }
    case 'tool': {
      const { output, isError } = message
      const type = typeof output === 'string' ? (isError ? 'error-text' : 'text') : isError ? 'error-json' : 'json'
      return {
        role: 'tool',
        content: [
          {
            type: 'tool-result',
            toolCallId: message.callId,
            toolName: names.sent(message.name),
            output: { type, value: output } as { type: 'json'; value: typeof output }, // the type goes with the value
          },
        ],
      }
    }
  }
}

/** How the provider is told what it may keep; null where it needs no telling. */
function cacheMark({ provider, model, promptCaching }: ModelEndpointSpec): SharedV4ProviderOptions | null {
  if (!promptCaching) return null
  if (provider === 'anthropic') return { anthropic: { cacheControl: { type: 'ephemeral' } } }
  // Other models there refuse a request with a mark.
  if (provider === 'bedrock' && /anthropic|nova/.test(model)) return { bedrock: { cachePoint: { type: 'default' } } }
  return null
}
