import type { Definition, FunctionNode, RetryPolicy } from '../workflow.ts'

export const NO_RETRY: RetryPolicy = { max: 0, initialMs: 1_000, maxMs: 60_000, factor: 2, jitter: 0, on: null }

/** A node of a test: its name, what it needs by name, and what is not the usual. */
export type NodeSpec = { name: string; needs?: string[]; refs?: string[] } & Partial<
  Omit<FunctionNode, 'name' | 'needs' | 'refs' | 'kind'>
>

/** A definition of function steps, as if compiled from a manifest. */
export function definitionOf(specs: readonly NodeSpec[], extra: Partial<Omit<Definition, 'nodes'>> = {}): Definition {
  const position = new Map(specs.map((s, i) => [s.name, i]))
  const numbers = (names: readonly string[] = []) =>
    names.map((name) => {
      const at = position.get(name)
      if (at === undefined) throw new Error(`no node ${name}`)
      return at
    })
  return {
    namespace: 'default',
    name: 'test',
    labels: {},
    inputs: null,
    failFast: false,
    modules: { m: './m.ts' },
    ...extra,
    nodes: specs.map(({ needs, refs, ...spec }) => ({
      kind: 'function',
      function: 'm.work',
      with: null,
      if: null,
      forEach: null,
      maxParallel: null,
      retry: NO_RETRY,
      timeoutMs: null,
      queueTimeoutMs: null,
      outputSchema: null,
      onFailure: 'fail',
      repeatable: true,
      runsOn: {},
      ...spec,
      needs: numbers(needs),
      refs: numbers(refs),
    })),
  }
}
