import { failureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Action } from './action.ts'
import { askModel, costLimit, tokenLimit } from './ask-model.ts'
import { checkAnswer } from './answer.ts'
import { buildRequest } from './conversation.ts'
import { contractEnd } from './contract.ts'
import { rejectionOf } from './feedback.ts'
import { judgementIn, judgeRequest } from './judge.ts'
import { nextOfRoute } from './next-of-route.ts'
import { nextOfTools } from './next-of-tools.ts'
import { nextOfToolStep } from './next-of-tool-step.ts'
import { type AgentPlan, agentSpecOf, type Plan } from './plan.ts'
import { type TurnRecord, type TurnState, workedBefore } from './turn-state.ts'

/** Judges that may say nothing usable before the answer counts as not accepted. */
const JUDGES_MAX = 2

/**
 * Pure and total: what a step of agents does next, by what its journal says. `elapsedMs` is how long this attempt has worked. Tools of one turn that
 * may be called are called side by side; what waits for people and for runs below is waited for when nothing else is left to do.
 */
export function nextAction(plan: Plan, state: TurnState, { elapsedMs }: { elapsedMs: number }): Action {
  switch (plan.kind) {
    case 'route':
      return nextOfRoute(plan, state)
    case 'tool':
      return nextOfToolStep(plan, state)
    case 'agent':
      return nextOfAgent(plan, state, elapsedMs)
  }
}

function nextOfAgent(plan: AgentPlan, state: TurnState, elapsedMs: number): Action {
  const over = overTime(plan, state, elapsedMs)
  if (over) return over
  const last = state.turns.at(-1)
  if (!last) return askTurn(plan, state, 'turn')
  if (last.answer === null) return askAgain(plan, state, last)
  return (
    overSpent(plan, state, last) ??
    (last.calls.length > 0 ? afterCalls(plan, state, last) : afterAnswer(plan, state, last))
  )
}

function overTime(plan: AgentPlan, state: TurnState, elapsedMs: number): Action | null {
  const { timeout } = agentSpecOf(plan).limits
  const workedMs = workedBefore(state, plan.fence) + elapsedMs
  if (timeout === undefined || workedMs < timeout) return null
  return timedOut(plan, { timeoutMs: timeout, workedMs: Math.round(workedMs), turns: state.turns.length })
}

const timedOut = (plan: AgentPlan, evidence: { timeoutMs: number; workedMs: number; turns: number }): Action =>
  fail('agent.timed_out', plan, { agent: plan.agent, ...evidence })

const fail = (
  code: Parameters<typeof failureRecord>[0],
  plan: AgentPlan,
  evidence: NonNullable<Parameters<typeof failureRecord>[2]>['evidence'],
  remediation?: string,
): Action => ({
  do: 'end',
  end: {
    ok: false,
    failure: failureRecord(code, `running agent ${plan.agent} in ${plan.what}`, {
      ...(evidence ? { evidence } : {}),
      ...(remediation === undefined ? {} : { remediation }),
    }),
  },
})

/** What was spent on answers that are there; the next call is looked at before it is made. */
function overSpent(plan: AgentPlan, state: TurnState, last: TurnRecord): Action | null {
  const { maxTokens, maxCost } = agentSpecOf(plan).limits
  const { tokens, money, currency, unpriced } = state.spent
  const what = `running agent ${plan.agent} in ${plan.what}`
  if (maxTokens !== undefined && tokens > maxTokens)
    return {
      do: 'end',
      end: { ok: false, failure: tokenLimit(what, { agent: last.agent, maxTokens, spentTokens: tokens }) },
    }
  if (maxCost === undefined) return null
  if (unpriced > 0) return fail('agent.cost_unknown', plan, { agent: last.agent, maxCost, calls: unpriced })
  if (money <= maxCost) return null
  return {
    do: 'end',
    end: { ok: false, failure: costLimit(what, { agent: last.agent, maxCost, spent: money, currency }) },
  }
}

/** A new turn of the agent that has the conversation now. */
function askTurn(plan: AgentPlan, state: TurnState, purpose: 'turn' | 'repair'): Action {
  const { maxTurns } = agentSpecOf(plan).limits
  const turns = state.turns.filter((turn) => turn.purpose === 'turn').length
  if (purpose === 'turn' && turns >= maxTurns)
    return fail('agent.turn_limit', plan, { agent: state.agent, maxTurns, lastText: shortText(state.turns.at(-1)) })
  return asking(plan, state, { turn: state.turns.length + 1, purpose, upTo: state.turns.length, agent: state.agent })
}

/** The turn has no answer: it is asked for again, or elsewhere. */
const askAgain = (plan: AgentPlan, state: TurnState, last: TurnRecord): Action =>
  asking(plan, state, { turn: last.turn, purpose: last.purpose, upTo: state.turns.length - 1, agent: last.agent })

function asking(
  plan: AgentPlan,
  state: TurnState,
  of: { turn: number; purpose: 'turn' | 'repair'; upTo: number; agent: string },
): Action {
  const { model, fallbackModels = [] } = agentSpecOf(plan, of.agent)
  const asks = state.turns[of.upTo]?.asks ?? []
  const { limits } = agentSpecOf(plan)
  return askModel(plan, state, {
    ...of,
    model,
    fallbacks: fallbackModels,
    asks,
    limits,
    ...buildRequest(plan, state, of.upTo),
  })
}

function afterCalls(plan: AgentPlan, state: TurnState, last: TurnRecord): Action {
  const next = nextOfTools(plan, state, last)
  if (next) return next
  if (agentSpecOf(plan).execution.stopAfterTool) {
    const first = last.calls.find(
      ({ result, tool }) => result?.ok === true && plan.tools(last.agent).entries.get(tool)?.source.by !== 'handoff',
    )
    if (first?.result?.ok === true) return toolAsAnswer(plan, state, first.result.output)
  }
  return askTurn(plan, state, 'turn')
}

/** The output of a tool as the answer: the value where there is a schema, else its text. */
function toolAsAnswer(plan: AgentPlan, state: TurnState, output: Parameters<typeof JSON.stringify>[0]): Action {
  const schema = agentSpecOf(plan).outputSchema ?? null
  const text = schema === null && typeof output === 'string' ? output : JSON.stringify(output)
  const checked = checkAnswer(text, schema)
  if (checked.kind !== 'fits') return notAnAnswer(plan, text, checked)
  return contractEnd(plan, state, { text, output: checked.output })
}

function afterAnswer(plan: AgentPlan, state: TurnState, last: TurnRecord): Action {
  const spec = agentSpecOf(plan)
  const text = last.answer?.text ?? ''
  const checked = checkAnswer(text, spec.outputSchema ?? null)
  const isRepaired = (turn: TurnRecord, i: number): boolean =>
    turn.purpose === 'repair' && rejectionOf(state.turns[i - 1] ?? turn) === null
  if (checked.kind !== 'fits')
    return state.turns.filter(isRepaired).length < spec.repairs
      ? askTurn(plan, state, 'repair')
      : notAnAnswer(plan, text, checked, spec.repairs)
  if (spec.check) {
    const action = afterCheck(plan, state, last, spec.check)
    if (action) return action
  }
  return contractEnd(plan, state, { text, output: checked.output })
}

/** What the semantic check still needs; null when the judge said yes. */
function afterCheck(
  plan: AgentPlan,
  state: TurnState,
  last: TurnRecord,
  check: { model?: string | undefined; criteria: string; retries: number },
): Action | null {
  const spec = agentSpecOf(plan)
  const closed = last.judgements.filter(({ answer }) => answer !== null)
  const judged = closed.map(({ answer }) => (answer === null ? null : judgementIn(answer))).find((one) => one !== null)
  if (judged?.ok === true) return null
  const no = state.turns.filter((turn) => rejectionOf(turn) !== null).length
  if (judged?.ok === false && no <= check.retries) return askTurn(plan, state, 'repair')
  if (judged?.ok === false || closed.length >= JUDGES_MAX)
    return fail('output.check_failed', plan, {
      agent: last.agent,
      reason: judged?.reason ?? 'the judge gave no verdict that can be read',
      criteria: check.criteria.slice(0, 2_000),
      answers: no,
      output: shortText(last),
    })
  const open = last.judgements.at(-1)
  return askModel(plan, state, {
    purpose: 'judge',
    turn: last.turn,
    agent: plan.agent,
    model: check.model ?? spec.model,
    fallbacks: check.model === undefined ? (spec.fallbackModels ?? []) : [],
    asks: open && open.answer === null ? open.asks : [],
    request: judgeRequest(plan, last),
    warnings: [],
    limits: spec.limits,
  })
}

/** Of an answer of a model; other outputs are put right elsewhere. */
const MEND_ANSWER =
  'The raw answer stands with the failure. Say in the instructions what the answer is to be, raise repairs of the agent, or use another model.'

/** The raw text is kept: somebody has to see what came. */
function notAnAnswer(
  plan: AgentPlan,
  text: string,
  checked: Exclude<ReturnType<typeof checkAnswer>, { kind: 'fits' }>,
  repairs = 0,
): Action {
  const output = text.slice(0, LIMITS.evidenceBytes / 4)
  switch (checked.kind) {
    case 'empty':
      return fail('output.empty', plan, { agent: plan.agent, output, repairs })
    case 'not_json':
      return fail(
        'output.not_json',
        plan,
        { agent: plan.agent, output, repairs, problem: checked.problem },
        MEND_ANSWER,
      )
    case 'breaks_schema': {
      const problems = checked.problems.slice(0, 50).map(({ path, message }) => ({ path, message }))
      return fail('output.schema_violation', plan, { agent: plan.agent, output, repairs, problems }, MEND_ANSWER)
    }
  }
}

const shortText = (turn: TurnRecord | undefined): string => (turn?.answer?.text ?? '').slice(0, LIMITS.tailBytes)
