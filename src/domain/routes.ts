import type { JsonObject } from '../base/json.ts'
import type { Path } from './place.ts'
import { isObject } from './placed-problem.ts'
import type { StepManifest } from './schema.ts'
import { bareExpression } from './template.ts'

/** One step that a route chooses from, with where it is named. */
export interface Choice {
  name: string
  at: Path
}

/** The steps that a route chooses from; the step may be wrong in other ways. Empty where it is no route. */
export function choicesOf({ route }: JsonObject, path: Path): Choice[] {
  if (!isObject(route)) return []
  const { to, fallback } = route
  const named = isObject(to) ? Object.keys(to).map((name) => ({ name, at: [...path, 'route', 'to', name] })) : []
  const isMore = typeof fallback === 'string' && !named.some(({ name }) => name === fallback)
  return isMore ? [...named, { name: fallback, at: [...path, 'route', 'fallback'] }] : named
}

/** Names of the steps that a step names in `next`. */
export function namedInNext({ next }: JsonObject): string[] {
  const ways = Array.isArray(next) ? next : next === undefined ? [] : [next]
  return ways.flatMap((way) => {
    const name = isObject(way) ? way['step'] : way
    return typeof name === 'string' ? [name] : []
  })
}

/** Holds when the route picked the step. A route that was skipped, or that failed and counts as success, picked none. */
export const isChosen = (route: string, step: string): string =>
  `steps[${JSON.stringify(route)}].?output.?route.orValue("") == ${JSON.stringify(step)}`

/**
 * The steps with what routes add to them: that a step was chosen is a condition of its own beside its `if`; where the route names it in `next`, beside
 * that of the way.
 */
export function withRoutes(steps: readonly StepManifest[]): StepManifest[] {
  const conditions = new Map<string, string[]>()
  const turned = steps.map((step) => {
    if (step.route === undefined) return step
    const onWay = new Set(namedInNext(step as unknown as JsonObject)) // a parsed step is JSON
    const chosen = new Set(choicesOf(step as unknown as JsonObject, []).map(({ name }) => name))
    for (const name of chosen)
      if (!onWay.has(name)) conditions.set(name, [...(conditions.get(name) ?? []), isChosen(step.name, name)])
    if (step.next === undefined) return step
    const next = step.next.map((way) => {
      const { step: name, if: own } = typeof way === 'string' ? { step: way, if: undefined } : way
      return chosen.has(name) ? { step: name, if: allOf([isChosen(step.name, name)], own) } : way
    })
    return { ...step, next }
  })
  if (conditions.size === 0) return turned
  return turned.map((step) => {
    const of = conditions.get(step.name)
    return of === undefined ? step : { ...step, if: allOf(of, step.if) }
  })
}

function allOf(conditions: readonly string[], own: string | undefined): string {
  const all = own === undefined ? conditions : [...conditions, `(${bareExpression(own) ?? own})`]
  return all.join(' && ')
}
