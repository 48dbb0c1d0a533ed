import { type BesideRows, letGo, nothingBeside } from './advance/beside-rows.ts'
import type { RunCore } from './advance/happenings.ts'
import type { StepChange } from './advance/result.ts'
import type { FailureRecord } from './failure.ts'
import { isStepTerminal } from './machines.ts'
import { endsWell, ringOf } from './rings.ts'
import { isJoinImpossible, isJoinMet, keyOf, keyText, type Step, type StepKey } from './step.ts'
import { type Definition, isDecided, isJournaled, isWork, needOf } from './workflow.ts'

export interface ReopenInput {
  definition: Definition
  dependents: readonly (readonly number[])[]
  run: RunCore
  /** Every step of the run. */
  steps: readonly Step[]
  now: number
  /** A retry of everything, or of one failed step. */
  what: { type: 'retry'; step: StepKey | null } | ({ type: 'skip' } & StepKey)
}

export interface Reopened {
  run: RunCore
  changed: Step[]
  changes: StepChange[]
  beside: BesideRows
  ended: 'succeeded' | 'failed' | null
}

/**
 * What a person changes by hand in a run that stands still: `retry` re-opens what failed, was canceled or is blocked because of it; `skip` takes
 * one step as done with another output. Joins are counted anew from what the steps are now. Pure; looks at the whole run, so it
 * is not for hot paths. What succeeded stays as it is.
 */
export function reopen(input: ReopenInput): Reopened {
  const before = new Map(input.steps.map((s) => [keyText(s), s]))
  const rows = new Map(before)
  const put = (step: Step) => rows.set(keyText(step), step)
  const spread = groupsOf(input.steps)
  // What a stop canceled is still to be done. Only a retry does it: whatever goes on before would end without it.
  const isCutShort = input.what.type === 'skip' && input.steps.some(isStopped)
  if (input.what.type === 'retry') {
    const done = settledNodes(input)
    const { step: only } = input.what
    for (const step of input.steps)
      if ((step.path === '' || !done.has(step.node)) && (only === null || opensWith(step, only)))
        put(retried(step, input, spread))
  } else skipOne(input, input.what, { rows, spread, isCutShort })
  if (!isCutShort) for (const part of inOrder(input)) recountPart(part, { before, rows, spread }, input)
  return summary(input, before, rows)
}

/** Whether a retry of one step opens another: what is a part of it, or was stopped. What is blocked is looked at when it is counted anew. */
const opensWith = (step: Step, only: StepKey): boolean =>
  step.state === 'canceled' ||
  (step.state === 'failed' &&
    step.node === only.node &&
    (only.path === '' || step.path === '' || step.path === only.path))

/** Nodes that have activations, with how many. */
function groupsOf(steps: readonly Step[]): Map<number, number> {
  const groups = new Map<number, number>()
  for (const s of steps) if (s.path !== '') groups.set(s.node, (groups.get(s.node) ?? 0) + 1)
  return groups
}

/**
 * Nodes that are taken for done: they ended well, or their failure counts as success. What follows has gone on from there, so that
 * to change what they, or activations of theirs, came to would change the past.
 */
export function settledNodes({ definition, steps }: Pick<ReopenInput, 'definition' | 'steps'>): Set<number> {
  return new Set(steps.filter((s) => s.path === '' && endsWell(definition.nodes[s.node], s)).map((s) => s.node))
}

/** The step without what belonged to the state it was in. */
const bare = (s: Step) => ({
  node: s.node,
  path: s.path,
  need: s.need,
  ok: s.ok,
  bad: s.bad,
  total: s.total,
  fence: s.fence,
  tries: 0,
  losses: 0,
  released: s.released,
  // What a try wrote down that is repeated by hand counts no more.
  journalFrom: s.fence,
  dueAt: null,
  item: s.item,
})

function retried(step: Step, { definition, now }: ReopenInput, spread: ReadonlyMap<number, number>): Step {
  const node = definition.nodes[step.node]
  if (!node || (step.state !== 'failed' && step.state !== 'canceled' && step.state !== 'blocked')) return step
  if (isNotNeeded(step)) return step
  // Taken for success by what follows: to run it again now would change the past.
  if (step.state === 'failed' && endsWell(node, step)) return step
  if (step.path !== '') {
    return { ...bare(step), state: 'pending' } // `recount` lets as many go as may run at once
  }
  if (node.turns !== undefined && hasBegun(definition, step.node, spread)) return goingOn(step, { definition }, spread)
  const activations = spread.get(step.node)
  if (activations !== undefined) return { ...underWay(step), need: activations, total: activations }
  if (step.state === 'blocked' || step.state === 'canceled') return { ...bare(step), state: 'pending' }
  // It failed before it ever had an attempt: the decision itself failed, and is made again. What no worker runs always begins there.
  if (isDecided(node) && (step.fence === 0 || !isWork(node))) return { ...bare(step), state: 'pending', dueAt: now }
  return queued(step, node.queueTimeoutMs, now)
}

const underWay = (step: Step) => ({ ...bare(step), state: 'waiting', waits: 'children', on: null }) as const

/** A step of a ring that goes on after a retry: its turns are counted anew. */
function goingOn(
  step: Step,
  { definition }: Pick<ReopenInput, 'definition'>,
  spread: ReadonlyMap<number, number>,
): Step {
  const taken = spread.get(step.node) ?? 0
  return { ...underWay(step), need: taken + (definition.nodes[step.node]?.turns?.max ?? 0), total: taken }
}

/** Whether the ring of a node took a turn. */
const hasBegun = (definition: Definition, node: number, spread: ReadonlyMap<number, number>): boolean =>
  ringOf(definition, node).some((member) => spread.has(member))

/** Stopped because the join after it was met without it: not a part that failed. */
export const isNotNeeded = (step: Step): boolean =>
  step.state === 'canceled' && step.failure?.code === 'step.not_needed'

const isStopped = (step: Step): boolean => step.state === 'canceled' && step.path === '' && !isNotNeeded(step)

const queued = (step: Step, queueTimeoutMs: number | null, now: number): Step => ({
  ...bare(step),
  state: 'queued',
  dueAt: queueTimeoutMs === null ? null : now + queueTimeoutMs,
})

function skipOne(
  { definition, now }: ReopenInput,
  key: StepKey,
  { rows, spread, isCutShort }: { rows: Map<string, Step>; spread: ReadonlyMap<number, number>; isCutShort: boolean },
): void {
  const step = rows.get(keyText(key))
  if (!step) return
  rows.set(keyText(step), { ...bare(step), tries: step.tries, losses: step.losses, state: 'skipped' })
  if (step.path !== '' && !isCutShort && definition.nodes[step.node]?.turns !== undefined) {
    // The way goes on from there, however the ring stood.
    for (const node of ringOf(definition, step.node)) {
      const other = rows.get(keyText({ node, path: '' }))
      if (other) rows.set(keyText(other), { ...underWay(other), total: spread.get(node) ?? 0, dueAt: now })
    }
  }
  if (!spread.has(step.node) || step.path !== '') return
  for (const child of [...rows.values()]) {
    if (child.node === step.node && child.path !== '' && !isStepTerminal(child.state) && child.state !== 'running') {
      rows.set(keyText(child), { ...bare(child), state: 'canceled', failure: null })
    }
  }
}

/** Nodes in an order in which needs come first; what `next` joins is one part. */
function inOrder({ definition, dependents }: ReopenInput): (readonly number[])[] {
  const { nodes } = definition
  const partOf = nodes.map((n, i) => (n.turns === undefined ? [i] : ringOf(definition, i)))
  const open = new Map(partOf.map((part) => [part[0] ?? 0, 0]))
  for (const [i, node] of nodes.entries()) {
    const first = partOf[i]?.[0] ?? i
    open.set(first, (open.get(first) ?? 0) + node.needs.length)
  }
  const ready = [...open].flatMap(([first, needs]) => (needs === 0 ? [first] : []))
  const order: (readonly number[])[] = []
  for (let first = ready.pop(); first !== undefined; first = ready.pop()) {
    const part = partOf[first] ?? [first]
    order.push(part)
    for (const to of part.flatMap((node) => dependents[node] ?? [])) {
      const next = partOf[to]?.[0] ?? to
      const left = (open.get(next) ?? 0) - 1
      open.set(next, left)
      if (left === 0) ready.push(next)
    }
  }
  return order
}

function recountPart(
  part: readonly number[],
  {
    before,
    rows,
    spread,
  }: { before: ReadonlyMap<string, Step>; rows: Map<string, Step>; spread: ReadonlyMap<number, number> },
  input: ReopenInput,
): void {
  const steps = () => part.flatMap((node) => rows.get(keyText({ node, path: '' })) ?? [])
  const isRing = input.definition.nodes[part[0] ?? 0]?.turns !== undefined
  if (isRing && hasBegun(input.definition, part[0] ?? 0, spread)) {
    // It waits for nothing outside any more, and goes on with all of its steps or not at all.
    if (!steps().some((s) => s.state === 'waiting')) return
    for (const step of steps()) if (step.state !== 'waiting') rows.set(keyText(step), goingOn(step, input, spread))
  }
  for (const node of part) recount(node, { rows, before }, input)
  // A ring that cannot begin with all of its steps does not begin.
  if (!isRing || !steps().some((s) => isStepTerminal(s.state))) return
  for (const step of steps()) {
    const was = before.get(keyText(step))
    if (step.state === 'pending' && was && isStepTerminal(was.state)) rows.set(keyText(step), was)
  }
}

function recount(
  nodeIndex: number,
  { rows, before }: { rows: Map<string, Step>; before: ReadonlyMap<string, Step> },
  { definition, now }: ReopenInput,
): void {
  const node = definition.nodes[nodeIndex]
  const step = rows.get(keyText({ node: nodeIndex, path: '' }))
  if (!node || !step) return
  if (step.state === 'waiting' && step.waits === 'children') {
    const children = [...rows.values()].filter((s) => s.node === nodeIndex && s.path !== '')
    const ok = children.filter((c) => endsWell(node, c)).length
    const bad = children.filter((c) => isStepTerminal(c.state) && !endsWell(node, c)).length
    if (node.turns !== undefined) {
      const released = children.filter((c) => c.released > 0).length
      rows.set(keyText(step), { ...step, ok, bad, released, dueAt: now })
      return
    }
    const pending = children.filter((c) => c.state === 'pending').sort((a, b) => (a.path < b.path ? -1 : 1))
    const out = children.length - pending.length - ok - bad
    // What no worker runs is let go when the group is looked at, which it is owed now.
    const room = isWork(node) ? Math.max(0, (node.maxParallel ?? children.length) - out) : 0
    const next = pending.slice(0, room)
    for (const child of next) rows.set(keyText(child), queued(child, node.queueTimeoutMs, now))
    const released = children.length - pending.length + next.length
    rows.set(keyText(step), { ...step, ok, bad, released, dueAt: now })
    return
  }
  if (step.state !== 'pending' && step.state !== 'blocked') return
  let ok = 0
  let bad = 0
  for (const need of node.needs) {
    const s = rows.get(keyText({ node: need, path: '' }))
    if (!s || !isStepTerminal(s.state)) continue
    if (endsWell(definition.nodes[need], s)) ok += 1
    else bad += 1
  }
  const counts = { ...bare(step), need: needOf(node), total: node.needs.length, ok, bad }
  if (isJoinImpossible(counts)) {
    // What was stopped and cannot run for something else that failed stays stopped.
    const was = before.get(keyText(step))
    if (step.state === 'blocked') rows.set(keyText(step), { ...step, ok, bad })
    else if (was?.state === 'canceled') rows.set(keyText(step), was)
  } else if (!isJoinMet(counts)) rows.set(keyText(step), { ...counts, state: 'pending' })
  else if (isDecided(node)) rows.set(keyText(step), { ...counts, state: 'pending', dueAt: now })
  else rows.set(keyText(step), queued({ ...step, ...counts, state: 'pending' }, node.queueTimeoutMs, now))
}

function summary(
  { definition, run }: ReopenInput,
  before: ReadonlyMap<string, Step>,
  rows: ReadonlyMap<string, Step>,
): Reopened {
  const changed = [...rows.values()].filter((s) => JSON.stringify(s) !== JSON.stringify(before.get(keyText(s))))
  const all = [...rows.values()]
  const isBad = (s: Step) =>
    s.path === '' && (s.state === 'blocked' || (s.state === 'failed' && !endsWell(definition.nodes[s.node], s)))
  const open = all.filter((s) => !isStepTerminal(s.state)).length
  const bad = all.filter(isBad).length
  const beside = nothingBeside()
  for (const step of changed) {
    const former = before.get(keyText(step))
    if (!former) continue
    letGo(former, beside)
    if (isJournaled(definition.nodes[step.node]) && former.fence > 0) beside.closed.push(keyOf(step))
  }
  const failed = all.find(
    (s): s is Step & { state: 'failed'; failure: FailureRecord } => s.state === 'failed' && isBad(s),
  )
  const isGood = bad === 0 && !all.some(isStopped)
  const ended = open > 0 ? null : isGood ? 'succeeded' : 'failed'
  return {
    run: {
      ...run,
      stop: null,
      open,
      bad,
      active: all.filter((s) => s.state === 'queued' || s.state === 'running').length,
      // What it was stopped for stays to be told as long as it has not gone on.
      failure: failed?.failure ?? (ended === 'failed' ? run.failure : null),
    },
    changed,
    changes: changed
      .filter((s) => s.state !== before.get(keyText(s))?.state)
      .map((s) => ({ node: s.node, path: s.path, to: s.state })),
    ended,
    beside,
  }
}
