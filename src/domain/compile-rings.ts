import type { Problem } from './failure.ts'
import { knotsOf, wayRound } from './knots.ts'
import { LIMITS } from './limits.ts'
import { formatPath, type Path } from './place.ts'
import { beginnersOf, joinedBy } from './rings.ts'

/** A step as far as `next` is concerned. */
interface RingStep {
  name: string
  path: Path
  needs: readonly { name: string; path: Path }[]
  next?: readonly { name: string; path: Path }[]
  /** It, or the workflow, has maxTurns. */
  isBound?: boolean
}

/** Steps that `next` joins, with what is wrong with them. `edges` and `needs` are node numbers. */
export function compileRings(
  steps: readonly RingStep[],
  edges: readonly (readonly number[])[],
  needs: readonly (readonly number[])[],
): { rings: ReadonlyMap<number, readonly number[]>; problems: Problem[] } {
  const rings = joinedBy(edges)
  if (rings.size === 0) return { rings, problems: [] }
  const problems = [...new Set(rings.values())].flatMap((ring): Problem[] => {
    if (ring.length <= LIMITS.ringStepsMax) return []
    const message = `next joins ${ring.length} steps; the limit is ${LIMITS.ringStepsMax}`
    return [{ code: 'manifest.invalid', message, path: formatPath(steps[ring[0] ?? 0]?.path ?? []) }]
  })
  return {
    rings,
    problems: [
      ...problems,
      ...endless(steps, edges),
      ...innerNeeds(steps, rings, needs),
      ...unreached(steps, rings, edges),
    ],
  }
}

/** Ways round on which no step has a bound. */
function endless(steps: readonly RingStep[], edges: readonly (readonly number[])[]): Problem[] {
  const isFree = (node: number) => steps[node]?.isBound !== true
  const free = edges.map((targets, from) => (isFree(from) ? targets.filter(isFree) : []))
  const alone = free.flatMap((targets, from) => (targets.includes(from) ? [[from]] : []))
  const knots = [...knotsOf(free), ...alone]
  return knots.map((knot) => {
    const way = wayRound(knot, free)
    const names = way.map((i) => steps[i]?.name ?? '')
    const shown = names.length > 24 ? [...names.slice(0, 20), '…', ...names.slice(-1)] : names
    const message = `next goes round without end: ${shown.join(' → ')}; give the workflow, or a step on this way, maxTurns`
    const path = steps[way[0] ?? 0]?.next?.find((to) => to.name === names[1])?.path ?? []
    return { code: 'workflow.cycle', message, path: formatPath(path) }
  })
}

/** Ways round into which no way leads: each is told once, by its first step. */
function unreached(
  steps: readonly RingStep[],
  rings: ReadonlyMap<number, readonly number[]>,
  edges: readonly (readonly number[])[],
): Problem[] {
  return [...new Set(rings.values())].flatMap((ring) => {
    const beginners = beginnersOf(ring, edges)
    const reached = new Set(beginners)
    const followAll = () => {
      // What is added while the set is gone through is gone through as well.
      for (const node of reached) for (const to of edges[node] ?? []) reached.add(to)
    }
    followAll()
    const names = beginners.map((node) => steps[node]?.name ?? '')
    const begins = names.length === 1 ? `${names[0]} begins` : `${names.slice(0, 5).join(', ')} begin`
    return ring.flatMap((node): Problem[] => {
      if (reached.has(node)) return []
      reached.add(node)
      followAll()
      const name = steps[node]?.name ?? ''
      const message = `no way leads to ${name}: of the steps that next joins to it ${begins}; name ${name} in next of one that is reached`
      return [{ code: 'manifest.invalid', message, path: formatPath(steps[node]?.path ?? []) }]
    })
  })
}

function innerNeeds(
  steps: readonly RingStep[],
  rings: ReadonlyMap<number, readonly number[]>,
  needs: readonly (readonly number[])[],
): Problem[] {
  return [...rings].flatMap(([node, ring]) =>
    (needs[node] ?? []).flatMap((need): Problem[] => {
      if (rings.get(need) !== ring) return []
      const [name, other] = [steps[node]?.name ?? '', steps[need]?.name ?? '']
      const message = `${name} needs ${other}, and next joins the two: name ${name} in next of ${other} instead`
      const path = steps[node]?.needs.find((n) => n.name === other)?.path ?? []
      return [{ code: 'workflow.cycle', message, path: formatPath(path) }]
    }),
  )
}

/** The graph in which each ring is one node: its first step stands for all. What a ring needs of its own is left out. */
export function contracted(
  needs: readonly (readonly number[])[],
  rings: ReadonlyMap<number, readonly number[]>,
): { needs: number[][]; of: (node: number) => number } {
  const of = (node: number): number => rings.get(node)?.[0] ?? node
  const found = needs.map(() => new Set<number>())
  for (const [node, targets] of needs.entries())
    for (const target of targets) if (of(target) !== of(node) || !rings.has(node)) found[of(node)]?.add(of(target))
  return { needs: found.map((set) => [...set]), of }
}
