import type { Json } from '../../base/json.ts'
import type { Scope } from '../expression.ts'
import { Failure, type FailureRecord, failureRecord } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import { displayName, keyText, pathOf, type Step } from '../step.ts'
import { evaluateCondition } from '../template.ts'
import { isWork, type WorkflowNode } from '../workflow.ts'
import { begin } from './begin-step.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'
import { scopeOf } from './scope.ts'

/** Makes an activation for each item and lets as many begin as may run at once. */
export function* spread(
  round: Round,
  step: Step,
  node: WorkflowNode,
  { items, scope }: { items: Json; scope: Scope },
): Generator<Need, void, Given> {
  if (!Array.isArray(items)) {
    throw new Failure('expression.unresolved', `spreading ${round.nameOf(step)}: forEach gives no list`, {
      evidence: { got: items === null ? 'null' : typeof items },
    })
  }
  const room = LIMITS.stepsPerRunMax - round.run.total
  if (items.length > LIMITS.forEachItemsMax || items.length > room) {
    throw new Failure('foreach.too_large', `spreading ${round.nameOf(step)}`, {
      evidence: { items: items.length, limit: Math.min(LIMITS.forEachItemsMax, room) },
    })
  }
  if (items.length === 0) {
    round.result.outputs.push({ node: step.node, path: step.path, output: [] })
    round.put(step, { type: 'succeeded' })
    return
  }
  const released = Math.min(items.length, node.maxParallel ?? items.length)
  if (!round.put(step, { type: 'spread', count: items.length, released })) return
  for (const [index, item] of items.entries()) {
    const child = round.create(step.node, index, item)
    if (index < released) yield* begin(round, child, scope)
  }
}

/** A forEach whose activations moved: lets the next ones go, or ends. */
export function* lookAtGroup(round: Round, step: Step & { state: 'waiting' }): Generator<Need, void, Given> {
  const node = round.node(step.node)
  const done = step.ok + step.bad
  if (done >= step.total) {
    if (step.bad === 0 && node.loop !== null && round.run.stop === null) yield* takeTurn(round, step, node)
    else if (step.bad === 0) round.put(step, { type: 'succeeded' })
    else if (round.run.stop !== null) round.put(step, { type: 'canceled', failure: null })
    else yield* groupFailed(round, step, node)
    return
  }
  const room = (node.maxParallel ?? step.total) - (step.released - done)
  const more = Math.min(step.total - step.released, room)
  if (more <= 0 || round.run.stop !== null) return round.settleDue(step)
  // As many have left `pending` as were released, so the next ones begin there; only where a person re-opened or skipped some
  // are there others before.
  let released = step.released + (yield* release(round, step, pathOf(step.released), more))
  const left = step.released + more - released
  if (left > 0) released += yield* release(round, step, '', left)
  round.settleDue({ ...step, released })
}

function* release(round: Round, step: Step, from: string, count: number): Generator<Need, number, Given> {
  // The store does not know yet what was let go in this very round.
  const here = [...round.changed.values()].filter((s) => s.node === step.node && s.path !== '').length
  const given = yield { type: 'pending_activations', node: step.node, from, limit: count + here }
  const scope = isWork(round.node(step.node)) ? null : yield* scopeOf(round, [step.node])
  let released = 0
  // Nor what was made in it: an activation that ended as soon as it began lets the next one go at once.
  const made = [...round.created.values()].filter((s) => s.node === step.node && s.path !== '' && s.path >= from)
  for (const row of [...(given.steps ?? []), ...made.sort((a, b) => (a.path < b.path ? -1 : 1))]) {
    const child = round.rows.get(keyText(row)) ?? row
    if (released === count || child.state !== 'pending') continue
    round.rows.set(keyText(child), child)
    if (scope) yield* begin(round, child, scope)
    else round.put(child, { type: 'ready', expiresAt: round.expiry(child) })
    released += 1
  }
  return released
}

/** A turn of a loop has ended well: was it the last? */
function* takeTurn(round: Round, step: Step & { state: 'waiting' }, node: WorkflowNode): Generator<Need, void, Given> {
  const index = step.total - 1
  const key = { node: step.node, path: pathOf(index) }
  const here = round.result.outputs.findLast((o) => keyText(o) === keyText(key))
  const output = here ? here.output : ((yield { type: 'outputs', keys: [key] }).outputs?.[0]?.output ?? null)
  const scope = yield* scopeOf(round, [step.node])
  try {
    const { until = 'true', max = 1 } = node.loop ?? {}
    if (evaluateCondition(until, { ...scope, turn: { index, output } })) {
      round.result.outputs.push({ node: step.node, path: '', output })
      round.put(step, { type: 'succeeded' })
      return
    }
    if (step.total >= max)
      throw new Failure(
        'loop.limit_reached',
        `running ${round.nameOf(step)}: ${max} turns, and ${until} does not hold`,
        {
          evidence: { turns: step.total, max, until },
        },
      )
    if (round.run.total >= LIMITS.stepsPerRunMax)
      throw new Failure('run.too_large', `beginning another turn of ${round.nameOf(step)}`, {
        evidence: { limit: LIMITS.stepsPerRunMax },
      })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    round.put(step, { type: 'failed', failure: error.toRecord() }, { code: error.code })
    return
  }
  round.settleDue({ ...step, need: step.need + 1, total: step.total + 1, released: step.released + 1 })
  yield* begin(round, round.create(step.node, step.total, output), scope)
}

/** Some activations failed: with the first of them as its cause, the step fails. */
export function* groupFailed(round: Round, step: Step, node: WorkflowNode): Generator<Need, void, Given> {
  const given = yield { type: 'failed_activation', node: step.node }
  const here = [...round.rows.values()].filter((s) => s.node === step.node && s.path !== '' && s.state === 'failed')
  const failed = [...(given.steps ?? []), ...here].sort((a, b) => (a.path < b.path ? -1 : 1))[0]
  const cause = failed && failed.state === 'failed' ? failed.failure : null
  const failure: FailureRecord = {
    ...failureRecord(
      cause?.code ?? 'step.upstream_failed',
      `running ${round.nameOf(step)}: ${step.bad} of ${step.total} activations failed`,
      {
        evidence: {
          failed: step.bad,
          total: step.total,
          ...(failed ? { first: displayName(node.name, failed.path) } : {}),
        },
      },
    ),
    ...(cause ? { cause } : {}),
  }
  round.put(step, { type: 'failed', failure }, { code: failure.code })
}
