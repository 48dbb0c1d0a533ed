import { assert } from '../../base/assert.ts'
import type { JsonObject } from '../../base/json.ts'
import type { ToolResult } from '../../domain/agents/tool-envelope.ts'
import { validateJson } from '../../domain/json-schema.ts'
import type { TableEntry } from './tool-table.ts'
import type { CallState } from './turn-state.ts'

/** Where an asked call stands. */
export type CallStanding =
  | { kind: 'ready'; input: JsonObject }
  /** It is not made: this is its result. */
  | { kind: 'refused'; result: ToolResult }
  | { kind: 'approval'; approval: string }
  /** It may have been made, and may not be made again without a person's word. */
  | { kind: 'outcome'; input: JsonObject }

const refused = (
  code: 'approval.denied' | 'approval.expired' | 'tool.outcome_unknown',
  reason: string,
): CallStanding => ({
  kind: 'refused',
  result: { ok: false, code, reason, retryable: false },
})

/** Pure: may an asked call be made under `fence`, by the rules' and people's word on it. */
export function standingOf(call: CallState, entry: TableEntry, fence: number): CallStanding {
  const { asked, verdict, decided, outcome } = call
  assert(asked && verdict, `the call ${call.call} was not asked for`)
  if (verdict.verdict === 'deny')
    return {
      kind: 'refused',
      result: {
        ok: false,
        code: verdict.code,
        reason: `${verdict.reason} (${verdict.rule})`,
        retryable: false,
        evidence: { rule: verdict.rule, remediation: verdict.remediation },
      },
    }
  let { input } = asked.entry
  /** The attempt under which it could be made for the first time. */
  let first = asked.fence
  if (verdict.verdict === 'approval') {
    if (decided === null) return { kind: 'approval', approval: call.approval ?? '' }
    const { state, comment, input: edited } = decided.entry
    const said = comment === null || comment === '' ? '' : `: ${comment}`
    if (state === 'denied') return refused('approval.denied', `a person denied this call${said}`)
    if (state === 'expired') return refused('approval.expired', 'nobody approved this call in time')
    input = edited ?? input
    const problems = edited === null ? [] : inputProblems(entry, edited)
    if (problems.length > 0) return { kind: 'refused', result: invalidInput(problems) }
    // It was decided under the attempt that asked or after it, so the next one is the first that knows.
    first = decided.fence + 1
  }
  if (outcome !== null) {
    const { state, output, comment } = outcome.entry
    const said = comment === null || comment === '' ? '' : `: ${comment}`
    if (state !== 'approved')
      return refused('tool.outcome_unknown', `whether this call was made is not known, and it is not made again${said}`)
    if (output !== null) return { kind: 'refused', result: { ok: true, output } }
    first = outcome.fence + 1
  }
  return first >= fence || asked.entry.repeatable ? { kind: 'ready', input } : { kind: 'outcome', input }
}

/** What is wrong with the arguments of a call, as lines. MCP servers write schemas in dialects of their own: their client checks what can be checked. */
export const inputProblems = ({ offered, source }: TableEntry, input: JsonObject): string[] =>
  source.by === 'mcp'
    ? []
    : validateJson(input, offered.inputSchema, { mode: 'plain', code: 'tool.invalid_input', root: 'input' })
        .slice(0, 20)
        .map(({ path, message }) => `${path} ${message}`)

export const invalidInput = (problems: string[]): ToolResult => ({
  ok: false,
  code: 'tool.invalid_input',
  reason: `the arguments do not fit the input schema of the tool: ${problems[0] ?? ''}`,
  retryable: false,
  evidence: { problems },
})
