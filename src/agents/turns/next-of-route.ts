import { failureRecord } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { ModelRequest } from '../../domain/model-call.ts'
import { isObject } from '../../domain/placed-problem.ts'
import type { Action } from './action.ts'
import { jsonIn } from './answer.ts'
import { askModel } from './ask-model.ts'
import type { RoutePlan } from './plan.ts'
import type { TurnState } from './turn-state.ts'

/** One model call that picks a way; the fallback is gone where there is no usable answer. */
export function nextOfRoute(plan: RoutePlan, state: TurnState): Action {
  const { answer, asks } = state.route
  if (answer === null) {
    const next = askModel(plan, state, {
      purpose: 'route',
      turn: 1,
      agent: '',
      model: plan.model,
      fallbacks: [],
      asks,
      request: routeRequest(plan),
      warnings: [],
      limits: null,
    })
    if (next.do !== 'end' || next.end.ok || plan.fallback === null) return next
    return end(plan.fallback, `the model did not answer (${next.end.failure.code})`)
  }
  const found = jsonIn(answer.text)
  const said = found.kind === 'json' && isObject(found.value) ? found.value : {}
  const { route, reason } = said
  if (typeof route === 'string' && Object.hasOwn(plan.to, route))
    return end(route, typeof reason === 'string' ? reason : '')
  if (plan.fallback !== null) return end(plan.fallback, 'the model named none of the ways')
  const evidence = { ways: Object.keys(plan.to), output: answer.text.slice(0, LIMITS.tailBytes) }
  return {
    do: 'end',
    end: { ok: false, failure: failureRecord('route.undecided', `picking a way in ${plan.what}`, { evidence }) },
  }
}

const end = (route: string, reason: string): Action => ({
  do: 'end',
  end: { ok: true, output: { route, reason }, notes: [] },
})

/** The question is data: whatever it says, only a way that exists can come of it. */
function routeRequest({ question, to }: RoutePlan): ModelRequest {
  const ways = Object.entries(to).map(([name, about]) => `- ${name}: ${about}`)
  return {
    messages: [
      {
        role: 'system',
        text: `Pick who takes what the next message says. These are the ways:\n${ways.join('\n')}\n\nAnswer with JSON: {"route": NAME OF A WAY, "reason": ONE SENTENCE}.`,
      },
      { role: 'user', text: question },
    ],
    output: {
      name: 'route',
      schema: {
        type: 'object',
        properties: { route: { type: 'string', enum: Object.keys(to) }, reason: { type: 'string' } },
        required: ['route', 'reason'],
        additionalProperties: false,
      },
    },
    temperature: 0,
  }
}
