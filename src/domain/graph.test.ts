import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileGraph, type GraphStep } from './graph.ts'

const step = (name: string, needs: string[] = [], reads: string[] = []): GraphStep => ({
  name,
  needs: needs.map((need, i) => ({ name: need, path: ['spec', name, 'needs', i] })),
  reads: reads.map((read) => ({ name: read, path: ['spec', name, 'with'] })),
  path: ['spec', name],
})
const names = (n: number): string[] => Array.from({ length: n }, (_, i) => `s${i}`)

describe('compileGraph', () => {
  test('a read must be upstream, at any distance', () => {
    const steps = [
      step('a'),
      step('b', ['a']),
      step('c', ['b'], ['a', 'b']),
      step('d', ['a'], ['c']),
      step('e', [], ['e']),
    ]
    const graph = compileGraph(steps)
    expect(graph.refs).toEqual([[], [], [0, 1], [2], [4]])
    expect(graph.problems.map((p) => p.message)).toEqual([
      'd reads steps.c, which is not upstream; add c to needs',
      'e reads its own output',
    ])
  })

  test('each knot of steps is one problem, with a shortest way round', () => {
    const steps = [
      step('a', ['b']),
      step('b', ['c', 'a']),
      step('c', ['a']),
      step('x', ['y']),
      step('y', ['x']),
      step('after', ['a']),
    ]
    expect(compileGraph(steps).problems.map((p) => p.message)).toEqual([
      'steps need each other: a → b → a',
      'steps need each other: x → y → x',
    ])
  })

  test('a chain of 20,000 steps that read far upstream compiles', () => {
    const all = names(20_000)
    const steps = all.map((name, i) => step(name, i > 0 ? [`s${i - 1}`] : [], i > 1 ? [`s${i - 2}`, 's0'] : []))
    const graph = compileGraph(steps)
    expect(graph.problems).toEqual([])
    expect(graph.needs[19_999]).toEqual([19_998])
  })

  test('a circle of 20,000 steps is one problem of bounded length', () => {
    const all = names(20_000)
    const [only, ...others] = compileGraph(all.map((name, i) => step(name, [`s${(i + 1) % 20_000}`]))).problems
    expect(others).toEqual([])
    expect(only?.message).toMatch(/^steps need each other: s0 → s1 → .* → … \(19980 more\) → s0$/)
  })

  test('more steps than the limit are too large', () => {
    expect(compileGraph(names(20_001).map((name) => step(name))).problems).toMatchObject([{ code: 'run.too_large' }])
  })

  test('upstream and cycles are what a plain search finds', () => {
    const edges = fc.integer({ min: 2, max: 9 }).chain((n) =>
      fc.record({
        n: fc.constant(n),
        edges: fc.array(fc.tuple(fc.nat(n - 1), fc.nat(n - 1)), { maxLength: 20 }),
        reads: fc.array(fc.tuple(fc.nat(n - 1), fc.nat(n - 1)), { maxLength: 6 }),
      }),
    )
    fc.assert(
      fc.property(edges, ({ n, edges: given, reads }) => {
        const kept = given.filter(([a, b]) => a !== b)
        const steps = names(n).map((name, i) =>
          step(
            name,
            kept.filter(([a]) => a === i).map(([, b]) => `s${b}`),
            reads.filter(([a]) => a === i).map(([, b]) => `s${b}`),
          ),
        )
        const reach = names(n).map((_, i) => reachable(i, kept))
        const graph = compileGraph(steps)
        expect(graph.problems.some((p) => p.code === 'workflow.cycle')).toBe(reach.some((set, i) => set.has(i)))
        if (reach.some((set, i) => set.has(i))) return
        const wrong = reads.filter(([a, b]) => !reach[a]?.has(b))
        expect(graph.problems.length).toBe(wrong.length)
      }),
    )
  })
})

function reachable(from: number, edges: [number, number][]): Set<number> {
  const found = new Set<number>()
  const work = [from]
  for (let node = work.pop(); node !== undefined; node = work.pop())
    for (const [a, b] of edges) {
      if (a !== node || found.has(b)) continue
      work.push(b)
      found.add(b)
    }
  return found
}
