/** Strongly connected components of two steps or more (Tarjan, with a stack of its own), each sorted, in order of first step. */
export function knotsOf(needs: readonly number[][]): number[][] {
  const index = new Int32Array(needs.length).fill(-1)
  const low = new Int32Array(needs.length)
  const onStack = new Uint8Array(needs.length)
  const stack: number[] = []
  const knots: number[][] = []
  let counter = 0

  function enter(node: number, work: { node: number; next: number }[]): void {
    index[node] = low[node] = counter++
    stack.push(node)
    onStack[node] = 1
    work.push({ node, next: 0 })
  }

  function leave(node: number): void {
    if (low[node] !== index[node]) return
    const knot = stack.splice(stack.lastIndexOf(node))
    for (const member of knot) onStack[member] = 0
    if (knot.length > 1) knots.push(knot.sort((a, b) => a - b))
  }

  for (const root of needs.keys()) {
    if (index[root] !== -1) continue
    const work: { node: number; next: number }[] = []
    enter(root, work)
    for (let top = work.at(-1); top; top = work.at(-1)) {
      const { node } = top
      const target = needs[node]?.[top.next++]
      if (target === undefined) {
        work.pop()
        leave(node)
        const parent = work.at(-1)?.node
        if (parent !== undefined) low[parent] = Math.min(low[parent] ?? 0, low[node] ?? 0)
      } else if (index[target] === -1) enter(target, work)
      else if (onStack[target]) low[node] = Math.min(low[node] ?? 0, index[target] ?? 0)
    }
  }
  return knots.sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0))
}

/** A shortest way from the first step of the knot back to itself. */
export function wayRound(knot: readonly number[], needs: readonly number[][]): number[] {
  const start = knot[0] ?? 0
  const members = new Set(knot)
  const cameFrom = new Map<number, number>()
  const queue = [start]
  for (let at = 0; at < queue.length; at++) {
    const node = queue[at] ?? 0
    for (const target of needs[node] ?? []) {
      if (target === start) {
        const way = [start]
        for (let step: number | undefined = node; step !== undefined; step = cameFrom.get(step)) way.unshift(step)
        return way
      }
      if (!members.has(target) || cameFrom.has(target)) continue
      cameFrom.set(target, node)
      queue.push(target)
    }
  }
  return [start]
}
