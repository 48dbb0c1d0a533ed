import { type BesideRows, letGo, nothingBeside } from './advance/beside-rows.ts'
import type { RunCore } from './advance/happenings.ts'
import type { StepChange } from './advance/result.ts'
import type { FailureRecord } from './failure.ts'
import { isStepGood, isStepTerminal } from './machines.ts'
import { isJoinImpossible, isJoinMet, keyText, type Step, type StepKey } from './step.ts'
import { type Definition, isDecided, isWork, needOf } from './workflow.ts'

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
  if (input.what.type === 'retry') {
    const done = settledNodes(input)
    const { step: only } = input.what
    for (const step of input.steps)
      if ((step.path === '' || !done.has(step.node)) && (only === null || opensWith(step, only)))
        put(retried(step, input, spread.get(step.node) ?? null))
  } else skipOne(input.what, rows, spread)
  for (const node of topological(input)) recount(node, { rows, before }, input)
  return summary(input, before, rows)
}

/** Whether a retry of one step opens another: what is a part of it, or was stopped. What is blocked is looked at when it is counted anew. */
const opensWith = (step: Step, only: StepKey): boolean =>
  step.state === 'canceled' ||
  (step.state === 'failed' &&
    step.node === only.node &&
    (only.path === '' || step.path === '' || step.path === only.path))

/** forEach nodes that have spread, with how many activations they have. */
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
  const isDone = (s: Step) =>
    isStepGood(s.state) || (s.state === 'failed' && definition.nodes[s.node]?.onFailure === 'continue')
  return new Set(steps.filter((s) => s.path === '' && isDone(s)).map((s) => s.node))
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
  dueAt: null,
  item: s.item,
})

function retried(step: Step, { definition, now }: ReopenInput, activations: number | null): Step {
  const node = definition.nodes[step.node]
  if (!node || (step.state !== 'failed' && step.state !== 'canceled' && step.state !== 'blocked')) return step
  if (isNotNeeded(step)) return step
  // Taken for success by what follows: to run it again now would change the past.
  if (step.state === 'failed' && step.path === '' && node.onFailure === 'continue') return step
  if (step.path !== '') {
    return { ...bare(step), state: 'pending' } // `recount` lets as many go as may run at once
  }
  if (activations !== null)
    return { ...bare(step), state: 'waiting', waits: 'children', on: null, need: activations, total: activations }
  if (step.state === 'blocked' || step.state === 'canceled') return { ...bare(step), state: 'pending' }
  // It failed before it ever had an attempt: the decision itself failed, and is made again. What no worker runs always begins there.
  if (isDecided(node) && (step.fence === 0 || !isWork(node))) return { ...bare(step), state: 'pending', dueAt: now }
  return queued(step, node.queueTimeoutMs, now)
}

/** Stopped because the join after it was met without it: not a part that failed. */
export const isNotNeeded = (step: Step): boolean =>
  step.state === 'canceled' && step.failure?.code === 'step.not_needed'

const queued = (step: Step, queueTimeoutMs: number | null, now: number): Step => ({
  ...bare(step),
  state: 'queued',
  dueAt: queueTimeoutMs === null ? null : now + queueTimeoutMs,
})

function skipOne(key: StepKey, rows: Map<string, Step>, spread: ReadonlyMap<number, number>): void {
  const step = rows.get(keyText(key))
  if (!step) return
  rows.set(keyText(step), { ...bare(step), tries: step.tries, losses: step.losses, state: 'skipped' })
  if (!spread.has(step.node) || step.path !== '') return
  for (const child of [...rows.values()]) {
    if (child.node === step.node && child.path !== '' && !isStepTerminal(child.state) && child.state !== 'running') {
      rows.set(keyText(child), { ...bare(child), state: 'canceled', failure: null })
    }
  }
}

/** Nodes in an order in which needs come first. */
function topological({ definition, dependents }: ReopenInput): number[] {
  const open = definition.nodes.map((n) => n.needs.length)
  const ready = open.flatMap((n, i) => (n === 0 ? [i] : []))
  const order: number[] = []
  for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
    order.push(node)
    for (const to of dependents[node] ?? []) {
      open[to] = (open[to] ?? 0) - 1
      if (open[to] === 0) ready.push(to)
    }
  }
  return order
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
    const ok = children.filter((c) => isStepGood(c.state)).length
    const bad = children.filter((c) => isStepTerminal(c.state) && !isStepGood(c.state)).length
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
    if (isStepGood(s.state) || (s.state === 'failed' && definition.nodes[need]?.onFailure === 'continue')) ok += 1
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
    s.path === '' &&
    (s.state === 'blocked' || (s.state === 'failed' && definition.nodes[s.node]?.onFailure !== 'continue'))
  const open = all.filter((s) => !isStepTerminal(s.state)).length
  const bad = all.filter(isBad).length
  const beside = nothingBeside()
  for (const step of changed) {
    const former = before.get(keyText(step))
    if (former) letGo(former, beside)
  }
  const failed = all.find(
    (s): s is Step & { state: 'failed'; failure: FailureRecord } => s.state === 'failed' && isBad(s),
  )
  return {
    run: {
      ...run,
      stop: null,
      open,
      bad,
      active: all.filter((s) => s.state === 'queued' || s.state === 'running').length,
      failure: failed?.failure ?? null,
    },
    changed,
    changes: changed
      .filter((s) => s.state !== before.get(keyText(s))?.state)
      .map((s) => ({ node: s.node, path: s.path, to: s.state })),
    // What a stop canceled is still to be done: only a retry makes such a run good.
    ended:
      open > 0
        ? null
        : bad > 0 || all.some((s) => s.state === 'canceled' && s.path === '' && !isNotNeeded(s))
          ? 'failed'
          : 'succeeded',
    beside,
  }
}
