import { failureRecord } from '../../domain/failure.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { Action } from './action.ts'
import { inputProblems, standingOf } from './call-standing.ts'
import type { ToolPlan } from './plan.ts'
import type { TurnState } from './turn-state.ts'

/** The one call of a tool step. */
const CALL = 'call'

/** One call, asked for and made as those of agents are; a result that is none fails the step. */
export function nextOfToolStep(plan: ToolPlan, state: TurnState): Action {
  const { entry } = plan
  const { offered, source } = entry
  const call = state.calls.get(CALL)
  const fail = (
    code: Parameters<typeof failureRecord>[0],
    evidence: Record<string, never> | object,
    retryable = false,
  ): Action => ({
    do: 'end',
    end: {
      ok: false,
      failure: {
        ...failureRecord(code, `calling tool ${offered.name} in ${plan.what}`, {
          evidence: { tool: offered.name, ...evidence },
        }),
        retryable,
      },
    },
  })
  if (!call) {
    const problems = isObject(plan.input) ? inputProblems(entry, plan.input) : ['input must be an object']
    if (!isObject(plan.input) || problems.length > 0) return fail('tool.invalid_input', { problems })
    return {
      do: 'ask_tools',
      entries: [
        {
          kind: 'tool_asked',
          call: CALL,
          turn: 0,
          agent: '',
          tool: offered.name,
          operation: offered.operation,
          input: plan.input,
          repeatable: offered.repeatable,
        },
      ],
    }
  }
  const { result } = call
  if (result !== null) {
    if (result.ok) return { do: 'end', end: { ok: true, output: result.output, notes: [] } }
    return fail(result.code, { reason: result.reason, ...result.evidence }, result.retryable)
  }
  const at = standingOf(call, entry, plan.fence)
  switch (at.kind) {
    case 'refused':
      return { do: 'write', entries: [{ kind: 'tool_answered', call: CALL, result: at.result, ms: 0, cut: 0 }] }
    case 'approval':
      return { do: 'park', on: { type: 'approvals', approvals: [at.approval] } }
    case 'outcome':
    case 'ready':
      if (source.by === 'child')
        return {
          do: 'park',
          on: { type: 'child', calls: [{ call: CALL, of: source.of, name: source.name, inputs: at.input }] },
        }
      return at.kind === 'outcome'
        ? { do: 'park', on: { type: 'outcome', call: CALL, tool: offered.name, input: at.input } }
        : { do: 'call_tools', calls: [{ call: CALL, tool: offered.name, agent: null, entry, input: at.input }] }
  }
}
