import { checkAnswer } from './answer.ts'
import { judgementIn } from './judge.ts'
import { type AgentPlan, agentSpecOf } from './plan.ts'
import type { TurnRecord } from './turn-state.ts'

const SHOWN_MAX = 20

/** What the model is told about an answer that was not taken; null when nothing is wrong with it. */
export function feedbackOn(plan: AgentPlan, turn: TurnRecord): string | null {
  if (turn.answer === null) return null
  const no = rejectionOf(turn)
  if (no !== null)
    return `The answer was looked at and is not accepted. Answer anew.${no === '' ? '' : ` The reason: ${JSON.stringify(no)}`}`
  const checked = checkAnswer(turn.answer.text, agentSpecOf(plan).outputSchema ?? null)
  switch (checked.kind) {
    case 'fits':
      return null
    case 'empty':
      return 'The answer was empty. Give the answer.'
    case 'not_json':
      return `The answer is not JSON: ${checked.problem}. Give the answer as one JSON value and nothing else.`
    case 'breaks_schema': {
      const lines = checked.problems.slice(0, SHOWN_MAX).map(({ path, message }) => `- ${path} ${message}`)
      return `The answer does not fit the JSON Schema:\n${lines.join('\n')}\nGive the whole answer anew, as one JSON value and nothing else.`
    }
  }
}

/** Why the judge did not accept the answer of a turn; null when it was not asked or said yes. */
export function rejectionOf(turn: TurnRecord): string | null {
  for (const { answer } of turn.judgements) {
    const judged = answer === null ? null : judgementIn(answer)
    if (judged?.ok === false) return judged.reason
  }
  return null
}
