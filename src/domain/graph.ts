import { nearest } from '../base/nearest.ts'
import type { Problem } from './failure.ts'
import { compileRings, contracted } from './compile-rings.ts'
import { knotsOf, wayRound } from './knots.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'

/** A step as far as the graph knows it. Steps that are wrong in other ways take part as long as they have a name. */
export interface GraphStep {
  name: string
  needs: { name: string; path: Path }[]
  /** Steps that its expressions read. */
  reads: { name: string; path: Path }[]
  path: Path
  /** Steps that may follow each turn of it. */
  next?: { name: string; path: Path }[]
  /** It, or the workflow, says how many turns it may take. */
  isBound?: boolean
}

export interface Graph {
  /** For each step the numbers of those it needs, each once. */
  needs: number[][]
  /** For each step the numbers of those it reads, each once. */
  refs: number[][]
  /** For each step the numbers of those that it names in `next`, in order. */
  next: number[][]
  /** For each step that `next` joins to others all of its ring. */
  rings: ReadonlyMap<number, readonly number[]>
  problems: Problem[]
}

/** Steps with names as a graph with numbers. Linear in steps and edges, without recursion; all problems at once. */
export function compileGraph(steps: readonly GraphStep[]): Graph {
  const problems: Problem[] = []
  if (steps.length > LIMITS.nodesMax) {
    const message = `the workflow has ${steps.length} steps; the limit is ${LIMITS.nodesMax}`
    return {
      needs: [],
      refs: [],
      next: [],
      rings: new Map(),
      problems: [{ code: 'run.too_large', message, path: 'spec.steps' }],
    }
  }
  const numbers = numberSteps(steps, problems)
  const names = [...numbers.keys()]
  const needs = steps.map((step, i) => resolveNeeds(step, i))
  const next = steps.map((step) => resolveNext(step))
  const { rings, problems: ringProblems } = compileRings(steps, next, needs)
  problems.push(...ringProblems)
  // Without rings this is the graph itself.
  const whole = rings.size === 0 ? { needs, of: (node: number) => node } : contracted(needs, rings)
  const order = orderOf(whole.needs)
  if (order.length < steps.length) for (const cycle of cyclesOf(steps, whole.needs)) problems.push(cycle)
  const refs = resolveReads(order)
  return { needs, refs, next, rings, problems }

  function unknown(kind: string, name: string, path: Path): void {
    // Past the limit nobody sees the problem, and looking for what was meant costs more than the rest.
    const near = problems.length < LIMITS.problemsMax ? nearest(name, names) : null
    const message = `${kind} ${JSON.stringify(name)}, but there is no such step`
    problems.push({
      code: 'workflow.reference_unknown',
      message,
      path: formatPath(path),
      ...(near ? { nearest: near } : {}),
    })
  }

  function resolveNeeds(step: GraphStep, number: number): number[] {
    const found = new Set<number>()
    for (const { name, path } of step.needs) {
      const target = name === step.name ? number : numbers.get(name)
      if (target === undefined) unknown(`${step.name} needs`, name, path)
      else if (target === number)
        problems.push({
          code: 'workflow.cycle',
          message: `${name} needs itself: ${name} → ${name}`,
          path: formatPath(path),
        })
      else found.add(target)
    }
    return [...found]
  }

  function resolveNext(step: GraphStep): number[] {
    return (step.next ?? []).flatMap(({ name, path }) => {
      const target = numbers.get(name)
      if (target === undefined) unknown(`${step.name} names in next`, name, path)
      return target ?? []
    })
  }

  function resolveReads(topological: number[]): number[][] {
    const far: { step: number; target: number; reader: number; read: number; path: Path }[] = []
    const found = steps.map((step, i) => {
      const targets = new Set<number>()
      const direct = new Set(needs[i])
      for (const { name, path } of step.reads) {
        const target = numbers.get(name)
        if (target === undefined) unknown(`${step.name} reads steps.`, name, path)
        else {
          // Steps of one ring may read each other, and themselves: what came before on the way.
          const isOfRing = rings.has(i) && whole.of(i) === whole.of(target)
          if (!direct.has(target) && !isOfRing)
            far.push({ step: whole.of(i), target: whole.of(target), reader: i, read: target, path })
          targets.add(target)
        }
      }
      return [...targets]
    })
    for (const { step, target, path, ...by } of notUpstream(far, whole.needs, topological)) {
      const [reader, read] = [steps[by.reader]?.name ?? '', steps[by.read]?.name ?? '']
      const message =
        step === target
          ? `${reader} reads its own output`
          : `${reader} reads steps.${read}, which is not upstream; add ${read} to needs`
      problems.push({ code: 'workflow.reference_unknown', message, path: formatPath(path) })
    }
    return found
  }
}

function numberSteps(steps: readonly GraphStep[], problems: Problem[]): Map<string, number> {
  const numbers = new Map<string, number>()
  for (const [i, step] of steps.entries()) {
    const first = numbers.get(step.name)
    if (first === undefined) numbers.set(step.name, i)
    else {
      const message = `${step.name} is already the name of ${formatPath(steps[first]?.path ?? [])}`
      problems.push({ code: 'workflow.duplicate_step', message, path: formatPath([...step.path, 'name']) })
    }
  }
  return numbers
}

/** Steps in an order where needs come first. Those on a cycle, and those behind one, are left out. */
function orderOf(needs: readonly number[][]): number[] {
  const followers: number[][] = needs.map(() => [])
  const open = needs.map((targets) => targets.length)
  for (const [i, targets] of needs.entries()) for (const target of targets) followers[target]?.push(i)
  const order = [...needs.keys()].filter((i) => open[i] === 0)
  for (let at = 0; at < order.length; at++) {
    for (const follower of followers[order[at] ?? 0] ?? []) {
      const left = (open[follower] ?? 0) - 1
      open[follower] = left
      if (left === 0) order.push(follower)
    }
  }
  return order
}

/** Reads whose target cannot be reached over needs. 32 targets in one pass over the graph, so 20,000 steps stay cheap. */
function notUpstream<Read extends { step: number; target: number }>(
  reads: Read[],
  needs: readonly number[][],
  order: number[],
): Read[] {
  const ordered = new Set(order)
  const targets = [...new Set(reads.map((read) => read.target))]
  const byTarget = Map.groupBy(reads, (read) => read.target)
  const missing: Read[] = []
  const bits = new Uint32Array(needs.length)
  const above = new Uint32Array(needs.length)
  for (let first = 0; first < targets.length; first += 32) {
    const group = targets.slice(first, first + 32)
    for (const [bit, target] of group.entries()) bits[target] = 1 << bit
    for (const i of order) {
      let reached = 0
      for (const need of needs[i] ?? []) reached |= (above[need] ?? 0) | (bits[need] ?? 0)
      above[i] = reached
    }
    for (const target of group)
      for (const read of byTarget.get(target) ?? [])
        // Behind a cycle nothing is known; the cycle is the problem to mend first.
        if (ordered.has(read.step) && !((above[read.step] ?? 0) & (bits[target] ?? 0))) missing.push(read)
    for (const target of group) bits[target] = 0
  }
  return missing
}

/** One problem for each knot of steps that need each other, with a shortest way round it. */
function cyclesOf(steps: readonly GraphStep[], needs: readonly number[][]): Problem[] {
  return knotsOf(needs).map((knot) => {
    const way = wayRound(knot, needs)
    const names = way.map((i) => steps[i]?.name ?? '')
    const shown =
      names.length > 24 ? [...names.slice(0, 20), `… (${names.length - 21} more)`, ...names.slice(-1)] : names
    const [from, to] = [steps[way[0] ?? 0], names[1]]
    const path = from?.needs.find((need) => need.name === to)?.path ?? from?.path ?? []
    return { code: 'workflow.cycle', message: `steps need each other: ${shown.join(' → ')}`, path: formatPath(path) }
  })
}
