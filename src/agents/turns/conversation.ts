import type { Json, JsonObject } from '../../base/json.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import type { ModelMessage, ModelRequest, ModelTool } from '../../domain/model-call.ts'
import { estimateRequest } from '../gateway/estimate-tokens.ts'
import { feedbackOn } from './feedback.ts'
import { type AgentPlan, agentSpecOf, boundAgent, promptOf } from './plan.ts'
import type { TurnRecord, TurnState } from './turn-state.ts'

export interface BuiltRequest {
  request: ModelRequest
  /** For the transcript: what of the conversation or the tools the model is not shown. */
  warnings: string[]
}

/**
 * Pure: what the model of the current agent is asked next. What people, tools and other models said goes only into messages of their own roles,
 * never into the instructions, so that no text can pass for another's.
 */
export function buildRequest(plan: AgentPlan, state: TurnState, upTo: number): BuiltRequest {
  const agent = state.turns[upTo]?.agent ?? state.agent
  const spec = agentSpecOf(plan, agent)
  const former = state.turns.slice(0, upTo)
  const offered = toolsOf(plan, agent, former)
  const base: Omit<ModelRequest, 'messages'> = {
    ...offered.request,
    ...outputOf(plan, spec.model, offered.request.tools !== undefined),
    ...(spec.maxAnswerTokens === undefined ? {} : { maxTokens: spec.maxAnswerTokens }),
    ...(spec.temperature === undefined ? {} : { temperature: spec.temperature }),
  }
  const rounds = former.map((turn) => messagesOf(plan, turn))
  const { maxTokens, keepTurns } = spec.context
  const build = (left: number): ModelRequest => ({
    ...base,
    messages: [
      { role: 'system', text: instructionsOf(plan, agent, left) },
      { role: 'user', text: promptOf(plan.input) },
      ...rounds.slice(left).flat(),
    ],
  })
  const left =
    maxTokens === undefined
      ? 0
      : leftOut(rounds, { maxTokens, keepTurns, fixed: estimateRequest(build(rounds.length)) })
  const told = left > 0 ? [`the ${left} oldest of ${former.length} turns were left out of the request`] : []
  return { request: build(left), warnings: [...told, ...offered.warnings] }
}

/** How many of the oldest rounds have to go. A round is an answer with all that its tools gave, so no call is parted from its result. */
function leftOut(
  rounds: readonly ModelMessage[][],
  { maxTokens, keepTurns, fixed }: { maxTokens: number; keepTurns: number; fixed: number },
): number {
  const sizes = rounds.map((messages) => estimateRequest({ messages }))
  let total = fixed + sizes.reduce((sum, size) => sum + size, 0)
  let left = 0
  while (total > maxTokens && rounds.length - left > keepTurns) total -= sizes[left++] ?? 0
  return left
}

function instructionsOf(plan: AgentPlan, agent: string, left: number): string {
  const schema = agentSpecOf(plan).outputSchema
  return [
    boundAgent(plan.bound, agent).instructions,
    ...(schema === undefined
      ? []
      : [`The final answer is one JSON value and nothing else. It fits this JSON Schema:\n${JSON.stringify(schema)}`]),
    ...(left > 0 ? [`The ${left} oldest turns of this conversation are left out.`] : []),
  ].join('\n\n')
}

/** Providers that take a schema of the answer beside tools; the others are told it in words, and the answer is checked all the same. */
const TAKE_BOTH: ReadonlySet<string> = new Set(['openai', 'azure-openai', 'openai-compatible', 'ollama', 'mock'])

function outputOf(plan: AgentPlan, model: string, hasTools: boolean): Pick<ModelRequest, 'output'> {
  const schema = agentSpecOf(plan).outputSchema
  if (schema === undefined) return {}
  if (hasTools && !TAKE_BOTH.has(plan.endpoints[model]?.provider ?? '')) return {}
  return { output: { schema } }
}

function toolsOf(
  plan: AgentPlan,
  agent: string,
  former: readonly TurnRecord[],
): { request: Pick<ModelRequest, 'tools' | 'toolChoice'>; warnings: readonly string[] } {
  const { entries, warnings } = plan.tools(agent)
  const tools = [...entries.values()].map(({ offered }): ModelTool => ({
    name: offered.name,
    description: offered.description,
    inputSchema: offered.inputSchema,
  }))
  if (tools.length > 0) return { request: { tools }, warnings }
  const used = new Set(former.flatMap(({ calls }) => calls.map(({ tool }) => tool)))
  if (used.size === 0) return { request: {}, warnings }
  // There are providers that refuse a conversation with calls of tools that the request does not declare.
  const gone = [...used].map((name): ModelTool => ({ name, description: 'Not here any more.', inputSchema: OBJECT }))
  return { request: { tools: gone, toolChoice: 'none' }, warnings }
}

const OBJECT: JsonObject = { type: 'object' }

/** What a turn adds to the conversation: the answer, what its tools gave, and what was wrong with it. */
function messagesOf(plan: AgentPlan, turn: TurnRecord): ModelMessage[] {
  const { answer, calls } = turn
  if (answer === null) return []
  const messages: ModelMessage[] = []
  if (answer.text !== '' || calls.length > 0)
    messages.push({
      role: 'assistant',
      ...(answer.text === '' ? {} : { text: answer.text }),
      ...(calls.length === 0
        ? {}
        : { toolCalls: calls.map(({ call, tool, input, text }) => ({ id: call, name: tool, input, text })) }),
    })
  for (const { call, tool, result, cut } of calls)
    if (result) messages.push({ role: 'tool', callId: call, name: tool, ...toldOf(result, cut) })
  const wrong = calls.length === 0 ? feedbackOn(plan, turn) : null
  if (wrong !== null) messages.push({ role: 'user', text: wrong })
  return messages
}

/** A result as the model is told it. */
function toldOf(result: ToolResult, cut: number): { output: Json; isError?: true } {
  if (!result.ok) {
    const { code, reason, retryable, evidence } = result
    const problems = evidence?.['problems']
    return {
      output: { error: { code, reason, retryable, ...(problems === undefined ? {} : { problems }) } },
      isError: true,
    }
  }
  if (cut === 0) return { output: result.output }
  const text = typeof result.output === 'string' ? result.output : JSON.stringify(result.output)
  return { output: `${text}\n[${cut} more bytes of this output were cut off]` }
}
