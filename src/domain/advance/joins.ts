import { failureRecord } from '../failure.ts'
import { endsWell, ringOf } from '../rings.ts'
import { displayName, isJoinImpossible, isJoinMet, keyText, type Step, type StepKey } from '../step.ts'
import { isDecided } from '../workflow.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'
import { notNeeded } from './stopping.ts'

/** What is told of an end: how many of its needs, or of its activations, ended how. */
interface Target {
  key: StepKey
  ok: number
  bad: number
  by: Step | null
  isGroup: boolean
}

/** Counts what has ended in the joins that wait for it. */
export function* tellDependents(round: Round): Generator<Need, void, Given> {
  const ended = round.ended
  round.ended = []
  const targets = new Map<string, Target>()
  const count = (key: StepKey, good: boolean, by: Step, isGroup: boolean) => {
    // A need and an activation may end in one breath: what they count for is not the same.
    const id = `${keyText(key)}${isGroup ? '/*' : ''}`
    const t = targets.get(id) ?? { key, ok: 0, bad: 0, by: null, isGroup }
    if (good) t.ok += 1
    else {
      t.bad += 1
      t.by ??= by
    }
    targets.set(id, t)
  }
  const wanted: StepKey[] = []
  const spoilt: Step[] = []
  for (const step of ended) {
    const node = round.node(step.node)
    if (step.path !== '') {
      count({ node: step.node, path: '' }, endsWell(node, step), step, true)
      continue
    }
    const good = endsWell(node, step)
    if (round.run.stop === null)
      for (const to of round.input.dependents[step.node] ?? []) count({ node: to, path: '' }, good, step, false)
    // What is bad reaches everything below it; asking once is cheaper than asking level by level.
    if (good || round.run.stop !== null) continue
    wanted.push(...belowOf(round, step.node))
    if (node.turns === undefined) continue
    spoilt.push(step)
    wanted.push(...ringOf(round.input.definition, step.node).map((member) => ({ node: member, path: '' })))
  }
  yield* round.load([...wanted, ...[...targets.values()].map((t) => t.key)])
  for (const t of targets.values()) moveJoin(round, t)
  // A ring that cannot begin with all of its steps does not begin.
  for (const step of spoilt) {
    for (const member of ringOf(round.input.definition, step.node)) {
      const other = round.rows.get(keyText({ node: member, path: '' }))
      if (other?.state === 'pending') block(round, other, step)
    }
  }
}

function moveJoin(round: Round, t: Target): void {
  const target = round.rows.get(keyText(t.key))
  // A join that has fired counts no more: what ends late changes nothing.
  const counts = t.isGroup ? target?.state === 'waiting' && target.waits === 'children' : target?.state === 'pending'
  if (!target || !counts) return
  const moved: Step = { ...target, ok: target.ok + t.ok, bad: target.bad + t.bad }
  const key = keyText(moved)
  round.rows.set(key, moved)
  round.changed.set(key, moved)
  if (moved.state === 'waiting') {
    round.owed.set(key, moved)
  } else if (moved.state === 'pending' && isJoinImpossible(moved)) {
    block(round, moved, t.by)
  } else if (moved.state === 'pending' && isJoinMet(moved)) {
    if (isDecided(round.node(moved.node))) round.owed.set(key, moved)
    else round.put(moved, { type: 'ready', expiresAt: round.expiry(moved) })
  }
}

/** Its join can never be met any more. */
export function block(round: Round, step: Step, cause: Step | null): void {
  // Below what nobody needs nothing is wrong.
  if (cause?.state === 'canceled') {
    round.put(step, { type: 'canceled', failure: notNeeded(round, step, null) })
    return
  }
  const by = cause ? displayName(round.node(cause.node).name, cause.path) : 'a need'
  const code =
    cause && (cause.state === 'failed' || cause.state === 'blocked') ? cause.failure.code : (cause?.state ?? 'failed')
  const failure = failureRecord('step.upstream_failed', `starting ${round.nameOf(step)}: ${by} did not succeed`, {
    evidence: { blockedBy: by, code },
  })
  round.put(step, { type: 'blocked', failure }, { code: failure.code })
}

/** What lies below a node and was not asked for yet. Each node is visited once, however many above it are bad. */
function belowOf(round: Round, from: number): StepKey[] {
  const keys: StepKey[] = []
  const stack = [from]
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    for (const to of round.input.dependents[at] ?? []) {
      if (round.sunk.has(to)) continue
      round.sunk.add(to)
      keys.push({ node: to, path: '' })
      stack.push(to)
    }
  }
  return keys
}
