import { LIMITS } from './limits.ts'

/**
 * For each step the steps before it, direct and further up, that hand on variables; those whose needs come first stand first, so that of two that hand on
 * the same the later one counts. Null for a step that would be given those of more than LIMITS.importStepsMax. `needs` has no cycle.
 */
export function importsOf(
  needs: readonly (readonly number[])[],
  exports: (step: number) => boolean,
): (number[] | null)[] {
  const found: (number[] | null | undefined)[] = needs.map(() => undefined)
  const place = new Map<number, number>()
  const followers: number[][] = needs.map(() => [])
  const open = needs.map((targets) => targets.length)
  for (const [i, targets] of needs.entries()) for (const target of targets) followers[target]?.push(i)
  const order = [...needs.keys()].filter((i) => open[i] === 0)
  for (let at = 0; at < order.length; at++) {
    const step = order[at] ?? 0
    place.set(step, at)
    found[step] = gathered(needs[step] ?? [])
    for (const follower of followers[step] ?? []) {
      open[follower] = (open[follower] ?? 0) - 1
      if (open[follower] === 0) order.push(follower)
    }
  }
  return found.map((steps) => (steps === undefined ? [] : steps))

  function gathered(from: readonly number[]): number[] | null {
    const all = new Set<number>()
    for (const need of from) {
      const further = found[need]
      if (further === null) return null
      for (const step of further ?? []) all.add(step)
      if (exports(need)) all.add(need)
      if (all.size > LIMITS.importStepsMax) return null
    }
    return [...all].sort((a, b) => (place.get(a) ?? 0) - (place.get(b) ?? 0))
  }
}
