import type { Scope } from '../expression.ts'
import { Failure } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import { combinationsOf } from '../matrix.ts'
import { isJoinImpossible, isJoinMet, keyText, type Step } from '../step.ts'
import { ringOf } from '../rings.ts'
import { evaluateCondition, evaluateTemplate } from '../template.ts'
import { askAgain, begin } from './begin-step.ts'
import { lookAtGroup, spread } from './groups.ts'
import { block } from './joins.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'
import { bareScope, scopeOf, scopeOfStep } from './scope.ts'
import { cancelRest } from './stopping.ts'
import { lookAtRing } from './turns.ts'

/** Looks at the steps whose join moved or whose time has come. */
export function* lookAtOwed(round: Round): Generator<Need, void, Given> {
  const keys = [...round.owed.values()]
  const rings = new Set<number>()
  round.owed.clear()
  const decidable = keys.flatMap((k) => {
    const step = round.rows.get(keyText(k))
    return step && !isGroup(step) && round.node(step.node).turns === undefined ? [step.node] : []
  })
  const scope = decidable.length > 0 ? yield* scopeOf(round, decidable) : bareScope(round)
  for (const key of keys) {
    const step = round.rows.get(keyText(key))
    if (!step) continue
    const { turns } = round.node(step.node)
    const isReady = step.state === 'pending' && isJoinMet(step)
    if (step.state === 'pending' && isJoinImpossible(step)) block(round, step, null)
    else if (turns !== undefined && (isReady || isGroup(step))) {
      // One look is for all of its steps.
      const [first = step.node] = ringOf(round.input.definition, step.node)
      if (!rings.has(first)) yield* lookAtRing(round, step.node)
      rings.add(first)
    } else if (isReady) yield* decide(round, step, scope)
    else if (step.state === 'waiting') {
      const own = turns === undefined ? scope : yield* scopeOfStep(round, step)
      if (step.waits === 'children') yield* lookAtGroup(round, step)
      else if (step.waits === 'backoff') yield* begin(round, step, own)
      else if (step.waits === 'approval') askAgain(round, step, own)
    }
  }
}

const isGroup = (step: Step): boolean => step.state === 'waiting' && step.waits === 'children'

/** The join is met: skips the step, spreads it or lets it begin. */
function* decide(round: Round, step: Step, scope: Scope): Generator<Need, void, Given> {
  const node = round.node(step.node)
  if (step.path === '' && node.join?.rest === 'cancel') yield* cancelRest(round, node)
  try {
    // An activation's condition was that of its group.
    if (step.path === '' && node.if !== null && !evaluateCondition(node.if, scope)) {
      round.put(step, { type: 'skipped' })
      return
    }
    if (step.path !== '') yield* begin(round, step, scope)
    else if (node.loop !== null) yield* spread(round, step, node, { items: [null], scope })
    else if (node.matrix !== null) {
      const what = `spreading ${round.nameOf(step)}`
      const items = combinationsOf(node.matrix, scope, { what, limit: LIMITS.forEachItemsMax })
      yield* spread(round, step, node, { items, scope })
    } else if (node.forEach === null) yield* begin(round, step, scope)
    else yield* spread(round, step, node, { items: evaluateTemplate(node.forEach, scope), scope })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    round.put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
  }
}
