import { failureRecord, Failure, type FailureRecord } from '../failure.ts'
import { LIMITS } from '../limits.ts'
import { isStepTerminal } from '../machines.ts'
import { endsWell, ringOf } from '../rings.ts'
import { displayName, isJoinMet, keyText, pathOf, type Step } from '../step.ts'
import { evaluateCondition } from '../template.ts'
import { type Way, wayTo } from '../turn-way.ts'
import { isWork } from '../workflow.ts'
import { begin } from './begin-step.ts'
import { groupFailed } from './groups.ts'
import { block } from './joins.ts'
import type { Given, Need } from './needs.ts'
import type { Round } from './round.ts'
import { scopeOfStep } from './scope.ts'
import { cancelRest } from './stopping.ts'

/** Why a ring cannot go on from a turn: the failure, and the step whose it is. */
interface Halt {
  node: number
  failure: FailureRecord
}

/**
 * A ring in which something moved. Its steps begin together once nothing outside holds one of them, take turns as `next` leads, and end
 * together when no turn is under way.
 */
export function* lookAtRing(round: Round, node: number): Generator<Need, void, Given> {
  const members = ringOf(round.input.definition, node)
  yield* round.load(members.map((member) => ({ node: member, path: '' })))
  for (const step of stepsOf(round, members)) if (step.dueAt !== null) round.keep({ ...step, dueAt: null })
  if (round.run.stop !== null) return
  const steps = stepsOf(round, members)
  if (steps.every((step) => step.state === 'pending')) {
    if (steps.every(isJoinMet)) yield* beginRing(round, members)
    return
  }
  if (!steps.every(isOpen)) return
  const halts = yield* followEnded(round, members)
  if (halts === null) return goOnLater(round, steps[0])
  const isUnderWay = stepsOf(round, members).some((step) => step.ok + step.bad < step.total)
  if (!isUnderWay) yield* endRing(round, members, halts)
}

/** Leaves what is still to be followed to a transaction of its own: what no worker takes would else go all of its way in this one. */
function goOnLater(round: Round, first: Step | undefined): void {
  const step = first && round.rows.get(keyText(first))
  if (step) round.keep({ ...step, dueAt: round.input.now })
}

const stepsOf = (round: Round, members: readonly number[]): Step[] =>
  members.flatMap((node) => round.rows.get(keyText({ node, path: '' })) ?? [])

const isOpen = (step: Step): step is Step & { state: 'waiting' } =>
  step.state === 'waiting' && step.waits === 'children'

function* beginRing(round: Round, members: readonly number[]): Generator<Need, void, Given> {
  for (const node of members) if (round.node(node).join?.rest === 'cancel') yield* cancelRest(round, round.node(node))
  for (const step of stepsOf(round, members))
    round.put(step, { type: 'opened', turns: round.node(step.node).turns?.max ?? 1 })
  const beginners = members.filter((node) => round.node(node).turns?.begins === true)
  if (round.run.total + beginners.length > LIMITS.stepsPerRunMax)
    return yield* endRing(round, members, [tooLarge(round, members[0] ?? 0)])
  for (const node of beginners) yield* startTurn(round, node, {})
}

function* startTurn(round: Round, node: number, way: Way): Generator<Need, void, Given> {
  const step = round.rows.get(keyText({ node, path: '' }))
  if (!step) return
  round.keep({ ...step, total: step.total + 1 })
  yield* beginTurn(round, round.create(node, step.total, way))
}

function* beginTurn(round: Round, turn: Step): Generator<Need, void, Given> {
  const node = round.node(turn.node)
  round.turnsBegun += 1
  try {
    if (node.if !== null && !evaluateCondition(node.if, yield* scopeOfStep(round, turn)))
      round.put(turn, { type: 'skipped' })
    else if (isWork(node)) round.put(turn, { type: 'ready', expiresAt: round.expiry(turn) })
    else yield* begin(round, turn, yield* scopeOfStep(round, turn))
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    round.put(turn, { type: 'failed', failure: error.toRecord() }, { code: error.code })
  }
}

/**
 * Follows every turn that ended well, and lets those begin that a person re-opened. What it cannot follow stays to be followed. Null
 * when enough turns have begun in this round and others are still to be followed.
 */
function* followEnded(round: Round, members: readonly number[]): Generator<Need, Halt[] | null, Given> {
  const given = yield { type: 'turns_to_follow', nodes: members }
  for (const row of given.steps ?? []) if (!round.rows.has(keyText(row))) round.rows.set(keyText(row), row)
  const isOurs = new Set(members)
  const turns = [...round.rows.values()].filter((s) => s.path !== '' && s.released === 0 && isOurs.has(s.node))
  const halts: Halt[] = []
  for (const turn of turns.sort((a, b) => a.node - b.node || (a.path < b.path ? -1 : 1))) {
    if (round.turnsBegun >= LIMITS.turnsPerSettleMax) return null
    if (turn.state === 'pending') yield* beginTurn(round, turn)
    else if (isStepTerminal(turn.state) && endsWell(round.node(turn.node), turn)) {
      const halt = yield* follow(round, members, turn)
      if (halt) halts.push(halt)
    }
  }
  return halts
}

/** Lets every step take a turn whose condition holds after this one. All or none: a retry would else let some take it twice. */
function* follow(round: Round, members: readonly number[], turn: Step): Generator<Need, Halt | null, Given> {
  const ways = round.node(turn.node).turns?.next ?? []
  const chosen = new Set<number>()
  try {
    const scope = ways.some((way) => way.if !== null) ? yield* scopeOfStep(round, turn) : null
    for (const way of ways)
      if (scope === null || way.if === null || evaluateCondition(way.if, scope)) chosen.add(way.node)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { node: turn.node, failure: error.toRecord() }
  }
  for (const node of chosen) {
    const step = round.rows.get(keyText({ node, path: '' }))
    if (step && step.total >= step.need) return usedUp(round, members, { step, by: turn })
  }
  if (round.run.total + chosen.size > LIMITS.stepsPerRunMax) return tooLarge(round, turn.node)
  const own = round.rows.get(keyText({ node: turn.node, path: '' }))
  round.keep({ ...turn, released: 1 })
  if (own) round.keep({ ...own, released: own.released + 1 })
  for (const node of chosen) yield* startTurn(round, node, wayTo(turn))
  return null
}

function usedUp(round: Round, members: readonly number[], { step, by }: { step: Step; by: Step }): Halt {
  const name = (node: number) => round.node(node).name
  const turns = Object.fromEntries(stepsOf(round, members).map((s) => [name(s.node), s.total]))
  const doing = `going on from ${round.nameOf(by)} to ${name(step.node)}: it has had its ${step.total} turns`
  return {
    node: step.node,
    failure: failureRecord('turns.used_up', doing, {
      evidence: {
        step: name(step.node),
        after: displayName(name(by.node), by.path),
        maxTurns: round.node(step.node).turns?.max ?? 0,
        turns,
      },
    }),
  }
}

function tooLarge(round: Round, node: number): Halt {
  const doing = `going on from ${round.nameOf({ node, path: '' })}`
  return { node, failure: failureRecord('run.too_large', doing, { evidence: { limit: LIMITS.stepsPerRunMax } }) }
}

function* endRing(round: Round, members: readonly number[], halts: readonly Halt[]): Generator<Need, void, Given> {
  const isBad = halts.length > 0 || stepsOf(round, members).some((step) => step.bad > 0)
  if (isBad) return yield* endBadly(round, members, halts)
  const steps = stepsOf(round, members)
  const keys = steps.filter((s) => s.total > 0).map((s) => ({ node: s.node, path: pathOf(s.total - 1) }))
  const given = yield { type: 'outputs', keys }
  const outputs = new Map((given.outputs ?? []).map((o) => [keyText(o), o.output]))
  for (const o of round.result.outputs) outputs.set(keyText(o), o.output)
  for (const step of steps) {
    if (step.total === 0) round.put(step, { type: 'skipped' })
    else {
      const last = keyText({ node: step.node, path: pathOf(step.total - 1) })
      round.result.outputs.push({ node: step.node, path: '', output: outputs.get(last) ?? null })
      round.put(step, { type: 'succeeded' })
    }
  }
}

/** What failed fails; what `next` joins to it did not come to its end either. */
function* endBadly(round: Round, members: readonly number[], halts: readonly Halt[]): Generator<Need, void, Given> {
  for (const step of stepsOf(round, members)) {
    const halt = halts.find((h) => h.node === step.node)
    if (step.bad > 0) yield* groupFailed(round, step, round.node(step.node))
    else if (halt) round.put(step, { type: 'failed', failure: halt.failure }, { code: halt.failure.code })
  }
  const cause = stepsOf(round, members).find((step) => step.state === 'failed') ?? null
  for (const step of stepsOf(round, members)) if (!isStepTerminal(step.state)) block(round, step, cause)
}
