import fc from 'fast-check'
import type { Json, JsonObject } from '../../src/base/index.ts'
import { type AnySpec, NO_RETRY, type NodeSpec } from '../../src/domain/testing/definitions.ts'

export interface Graph {
  specs: AnySpec[]
  failFast: boolean
  inputs: JsonObject
}

interface Draft {
  needs: number[]
  kind: 'plain' | 'always' | 'never' | 'ifOutput' | 'each' | 'eachOutput' | 'loop' | 'nap' | 'naps'
  join: 'all' | 'any' | 'anyAlone'
  maxParallel: number | null
  onFailure: 'fail' | 'continue'
  retries: number
}

const nodesMax = 10

/** Steps that `next` joins: three at most, each with ways to some of them. */
interface RingDraft {
  needs: number[]
  steps: {
    ways: { to: number; if: (typeof CONDITIONS)[number] }[]
    kind: 'plain' | 'never' | 'nap' | 'instant'
    onFailure: 'fail' | 'continue'
    retries: number
    maxTurns: number
  }[]
  /** Something needs it. */
  after: boolean
}

const CONDITIONS = [
  null,
  'turn.index < 1',
  'turn.index < 2',
  "steps.r0.state == 'succeeded'",
  'type(steps.r1.output) == int && steps.r1.output > 4',
  "steps.r0.output == steps.r1.output || steps.r1.state == 'failed'",
] as const

const ring: fc.Arbitrary<RingDraft> = fc.record({
  needs: fc.uniqueArray(fc.nat({ max: nodesMax }), { maxLength: 2 }),
  steps: fc.array(
    fc.record({
      ways: fc.array(fc.record({ to: fc.nat({ max: 2 }), if: fc.constantFrom(...CONDITIONS) }), { maxLength: 2 }),
      kind: fc.constantFrom<('plain' | 'never' | 'nap' | 'instant')[]>(
        'plain',
        'plain',
        'plain',
        'never',
        'nap',
        'instant',
      ),
      onFailure: fc.constantFrom<('fail' | 'continue')[]>('fail', 'continue'),
      retries: fc.constantFrom(0, 1),
      maxTurns: fc.integer({ min: 1, max: 4 }),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  after: fc.boolean(),
})

const draft: fc.Arbitrary<Draft> = fc.record({
  needs: fc.uniqueArray(fc.nat({ max: nodesMax }), { maxLength: 3 }),
  kind: fc.oneof(
    { weight: 6, arbitrary: fc.constant<Draft['kind']>('plain') },
    {
      weight: 4,
      arbitrary: fc.constantFrom<Draft['kind'][]>(
        'always',
        'never',
        'ifOutput',
        'each',
        'eachOutput',
        'loop',
        'nap',
        'naps',
      ),
    },
  ),
  join: fc.constantFrom<Draft['join'][]>('all', 'all', 'all', 'all', 'any', 'anyAlone'),
  maxParallel: fc.option(fc.integer({ min: 1, max: 3 })),
  onFailure: fc.constantFrom('fail', 'fail', 'continue'),
  retries: fc.constantFrom(0, 0, 1),
})

/** Random graphs: plain and decided steps, forEach over inputs and over outputs, loops, rings of steps that go round, timers, joins of any, limits, retries, failures taken for success. */
export const graphs: fc.Arbitrary<Graph> = fc
  .record({
    drafts: fc.array(draft, { minLength: 1, maxLength: nodesMax }),
    failFast: fc.boolean(),
    inputs: fc.record({ items: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 4 }) }),
    ring: fc.option(ring),
  })
  .map(({ drafts, failFast, inputs, ring: round }) => ({
    specs: [
      ...drafts.map(failFast ? surely : identity).map((d, i) => specOf(d, i, drafts)),
      ...(round && !failFast ? ringOf(round, drafts.length) : []),
    ],
    failFast,
    inputs,
  }))

const identity = (d: Draft): Draft => d
/**
 * Without decisions that may fail. Under failFast such a failure cancels what is idle, and whether a step that was readied in the
 * same breath is still idle or leased already has two right answers.
 */
const surely = (d: Draft): Draft => ({
  ...d,
  kind: d.kind === 'ifOutput' ? 'always' : d.kind === 'eachOutput' ? 'each' : d.kind,
})

/** Each names another at least, so that they are joined whatever was drawn. */
function waysOf(drawn: RingDraft['steps'][number]['ways'], at: number, count: number): typeof drawn {
  if (count === 1) return drawn.length > 0 ? drawn : [{ to: 0, if: 'turn.index < 1' }]
  return at < count - 1 ? [...drawn, { to: at + 1, if: null }] : drawn
}

function ringOf({ needs, steps, after }: RingDraft, before: number): AnySpec[] {
  const specs = steps.map(({ ways, kind, onFailure, retries, maxTurns }, i): AnySpec => {
    const common: NodeSpec = {
      name: `r${i}`,
      // Spread over its steps: it begins when all of them may.
      needs: needs.filter((n) => n < before && n % steps.length === i).map((n) => `n${n}`),
      onFailure,
      refs: steps.map((_, at) => `r${at}`),
      // A condition reads r0 and r1; of a ring of one they are the same.
      next: waysOf(ways, i, steps.length).map((way) => {
        const step = `r${way.to % steps.length}`
        if (way.if === null) return step
        return { step, if: steps.length > 1 ? way.if : way.if.replaceAll('r1', 'r0') }
      }),
      maxTurns,
      retry: { ...NO_RETRY, max: retries, initialMs: 500 },
    }
    if (kind === 'never') return { ...common, if: 'turn.index > 0' }
    if (kind === 'plain') return common
    const { name, needs: held = [], refs = [], next = [] } = common
    const duration = kind === 'nap' ? '700ms' : '0s'
    return { name, needs: held, refs, next, maxTurns, onFailure, kind: 'wait', for: { type: 'duration', duration } }
  })
  return after ? [...specs, { name: 'after', needs: specs.map((s) => s.name) }] : specs
}

function specOf(
  { kind, needs: drawn, join, maxParallel, onFailure, retries }: Draft,
  at: number,
  drafts: readonly Draft[],
): AnySpec {
  // Needs are nodes before this one, so that there is no cycle.
  const needs = [...new Set(drawn.filter((n) => n < at))].map((n) => `n${n}`)
  const [first] = needs
  // Where one need waits for another, the end of that one readies it and makes it needless in one breath: whether it is leased by then has
  // two right answers.
  const isTangled = drawn.some((n) => n < at && drafts[n]?.needs.some((of) => of < n && drawn.includes(of)))
  const common: NodeSpec = {
    name: `n${at}`,
    needs,
    onFailure,
    join:
      join === 'all' || needs.length < 2 ? null : { need: 1, rest: join === 'any' || isTangled ? 'finish' : 'cancel' },
    retry: { ...NO_RETRY, max: retries, initialMs: 500 },
  }
  const reads = first === undefined ? {} : { refs: [first] }
  switch (kind) {
    case 'plain':
      return common
    case 'always':
      return { ...common, if: 'true' }
    case 'never':
      return { ...common, if: 'false' }
    case 'ifOutput':
      // Of a forEach or a skipped step this is no number: then the decision itself fails, which is a case as well.
      return first === undefined ? common : { ...common, ...reads, if: `steps.${first}.output > 4` }
    case 'loop':
      // Outputs are numbers or lists: where a list comes the condition fails, which is a case as well.
      return { ...common, loop: { until: 'turn.index >= 2 || turn.output > 6', max: 2 } }
    case 'nap':
      return { ...waiting(common), kind: 'wait', for: { type: 'duration', duration: '700ms' } }
    case 'naps': {
      const duration = '${{ string(item) + "00ms" }}'
      return {
        ...waiting(common),
        kind: 'wait',
        for: { type: 'duration', duration },
        forEach: '${{ inputs.items }}',
        maxParallel,
      }
    }
    case 'each':
      return { ...common, forEach: '${{ inputs.items }}', maxParallel }
    case 'eachOutput':
      return first === undefined
        ? { ...common, forEach: '${{ inputs.items }}', maxParallel }
        : { ...common, ...reads, forEach: `\${{ steps.${first}.output }}`, maxParallel }
  }
}

/** What a step has that no worker runs. */
function waiting({ name, needs = [], onFailure = 'fail', join = null }: NodeSpec): {
  name: string
  needs: string[]
  onFailure: 'fail' | 'continue'
  join: NonNullable<NodeSpec['join']> | null
} {
  return { name, needs, onFailure, join }
}

export type AttemptEnd = { kind: 'succeeded'; output: Json } | { kind: 'failed' } | { kind: 'returned' }

/** What an attempt comes to: drawn from its identity, so that both executions see the same. */
export function endOf(seed: number, step: string, fence: number): AttemptEnd {
  let hash = seed
  for (const c of `${step}@${fence}`) hash = (Math.imul(hash ^ c.charCodeAt(0), 0x01000193) >>> 0) % 1_000_003
  if (hash % 11 === 0) return { kind: 'returned' }
  if (hash % 5 === 0) return { kind: 'failed' }
  return { kind: 'succeeded', output: hash % 3 === 0 ? [hash % 5, 1] : hash % 10 }
}
