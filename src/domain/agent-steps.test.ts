import { describe, expect, test } from 'vitest'
import { compileWorkflow } from './manifest.ts'
import { planOf } from './plan.ts'
import { evaluateCondition } from './template.ts'
import { readsInputs, requirementsOf } from './workflow.ts'

const compile = (steps: unknown[], spec: object = {}) =>
  compileWorkflow({ apiVersion: 'orrery.dev/v1', kind: 'Workflow', metadata: { name: 'w' }, spec: { ...spec, steps } })
const nodesOf = (steps: unknown[], spec: object = {}) => {
  const compiled = compile(steps, spec)
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  return compiled.definition.nodes
}
const problemsOf = (...steps: unknown[]): string[] => {
  const compiled = compile(steps)
  return compiled.ok
    ? []
    : compiled.problems.map((p) => `${p.path}: ${p.message}${p.nearest === undefined ? '' : ` (${p.nearest}?)`}`)
}
const run = (name: string, more: object = {}): object => ({ name, command: ['true'], ...more })
const agent = (name: string, more: object = {}): object => ({ name, agent: 'writer', with: { prompt: 'Go.' }, ...more })
const triage = (route: object = {}, more: object = {}) => ({
  name: 'triage',
  route: { model: 'gpt', question: 'Which?', to: { billing: 'invoices', tech: 'errors' }, ...route },
  ...more,
})

describe('agent and tool steps', () => {
  test('an agent with a prompt, and with any JSON', () => {
    const [first, second] = nodesOf([
      run('measure'),
      agent('write', { needs: ['measure'], with: { prompt: 'About ${{ steps.measure.output.n }}' } }),
      agent('more', { with: ['${{ inputs.a }}', 1] }),
    ]).slice(1)
    expect(first).toMatchObject({ kind: 'agent', agent: 'writer', refs: [0], needs: [0] })
    expect(second).toMatchObject({ kind: 'agent', with: ['${{ inputs.a }}', 1] })
    expect(second && readsInputs(second)).toBe(true)
  })

  test('a tool with its input, and without', () => {
    const [first, second] = nodesOf([
      { name: 'a', tool: 'slack', with: { text: '${{ inputs.a }}' } },
      { name: 'b', tool: 'ping' },
    ])
    expect(first).toMatchObject({ kind: 'tool', tool: 'slack', with: { text: '${{ inputs.a }}' } })
    expect(second).toMatchObject({ kind: 'tool', tool: 'ping', with: {} })
  })

  test('they wait for a worker with agents', () => {
    const compiled = compile([
      agent('a', { runsOn: { gpu: 'yes' } }),
      { name: 'b', tool: 't' },
      run('billing', { needs: ['triage'] }),
      run('tech', { needs: ['triage'] }),
      triage(),
    ])
    if (!compiled.ok) throw new Error('does not compile')
    const { definition } = compiled
    const required = definition.nodes.map((node) => requirementsOf(definition, node))
    expect(required[0]).toEqual({ namespace: 'default', backend: 'agent', module: null, labels: { gpu: 'yes' } })
    expect(required.map(({ backend }) => backend)).toEqual(['agent', 'agent', 'process', 'process', 'agent'])
    const planned = planOf(definition, {}).steps
    expect(planned.map(({ name, kind, requires }) => `${name} ${kind} ${requires?.backend ?? ''}`)).toEqual([
      'a agent agent',
      'b tool agent',
      'triage route agent',
      'billing command process',
      'tech command process',
    ])
  })

  test('they spread, loop, go round, retry and are checked like others', () => {
    const [each, matrix, loop] = nodesOf([
      agent('each', { forEach: ['a', 'b'], with: { prompt: '${{ item }}' }, maxParallel: 1, retry: 2, timeout: '5m' }),
      {
        name: 'm',
        tool: 't',
        matrix: { os: ['x'] },
        with: { os: '${{ matrix.os }}' },
        outputSchema: { type: 'object' },
      },
      agent('l', { loop: { until: 'turn.output.done', max: 3 }, with: '${{ turn.index }}', onFailure: 'continue' }),
    ])
    expect(each).toMatchObject({ forEach: ['a', 'b'], maxParallel: 1, retry: { max: 2 }, timeoutMs: 300_000 })
    expect(matrix).toMatchObject({ matrix: { axes: { os: ['x'] } }, outputSchema: { type: 'object' } })
    expect(loop).toMatchObject({ loop: { max: 3 }, onFailure: 'continue' })
    const [draft, review] = nodesOf(
      [
        agent('draft', { next: 'review' }),
        agent('review', { next: [{ step: 'draft', if: '${{ !steps.review.output.good }}' }], queueTimeout: '1h' }),
      ],
      { maxTurns: 3 },
    )
    expect(draft?.turns).toMatchObject({ max: 3, begins: true })
    expect(review).toMatchObject({ queueTimeoutMs: 3_600_000, turns: { next: [{ node: 0 }] } })
  })

  test.each<[what: string, step: object, problem: RegExp]>([
    ['no name of an agent', { name: 'a', agent: 'Writer', with: 'x' }, /^spec\.steps\[0\]\.agent: must be lower-case/],
    ['an agent that is asked nothing', { name: 'a', agent: 'writer' }, /^spec\.steps\[0\]\.agent: stands without with/],
    ['a tool with a list', { name: 'a', tool: 't', with: [1] }, /^spec\.steps\[0\]\.with: must be a map/],
    ['a tool with a text', { name: 'a', tool: 't', with: 'x' }, /^spec\.steps\[0\]\.with: must be a map/],
    ['two of them', { name: 'a', tool: 't', agent: 'b', with: {} }, /^spec\.steps\[0\]\.tool: stands beside agent/],
    ['variables for an agent', { name: 'a', agent: 'b', with: {}, env: { A: 'b' } }, /^spec\.steps\[0\]\.env: is for/],
    [
      'secrets for a tool',
      { name: 'a', tool: 'b', secrets: { k: { secret: 's', key: 'k' } } },
      /secrets: is for steps/,
    ],
    ['repeatable of an agent', { name: 'a', agent: 'b', with: {}, repeatable: false }, /repeatable: is for steps/],
    ['what no expression reads', { name: 'a', agent: 'b', with: '${{ item }}' }, /item has no value here/],
  ])('%s is refused', (_, step, problem) => {
    expect(problemsOf(step)).toEqual([expect.stringMatching(problem)])
  })
})

describe('a route', () => {
  const answer = (route: string | null) => ({
    inputs: { vip: false },
    steps: { triage: { output: route === null ? null : { route, reason: 'r' }, state: 'succeeded' } },
    run: { id: 'r', workflow: 'w', namespace: 'n' },
  })
  const condition = (node: { if: string | null } | undefined, route: string | null) =>
    evaluateCondition(node?.if ?? 'true', answer(route))

  test('lets only the step run that it picked', () => {
    const [route, billing, tech, other] = nodesOf([
      triage(),
      run('billing', { needs: ['triage'] }),
      run('tech', { needs: ['triage'], if: '${{ inputs.vip || true }}' }),
      run('other', { needs: ['triage'] }),
    ])
    expect(route).toMatchObject({
      kind: 'route',
      model: 'gpt',
      question: 'Which?',
      options: [
        { step: 'billing', when: 'invoices' },
        { step: 'tech', when: 'errors' },
      ],
      fallback: null,
    })
    expect(billing?.refs).toEqual([0])
    expect([condition(billing, 'billing'), condition(tech, 'billing')]).toEqual([true, false])
    expect([condition(billing, 'tech'), condition(tech, 'tech')]).toEqual([false, true])
    expect(other?.if).toBeNull()
    // Skipped, or failed and taken as a success: then it picked none.
    expect([condition(billing, null), condition(tech, null)]).toEqual([false, false])
  })

  test('is one condition beside that of the step', () => {
    const [, billing] = nodesOf([
      triage(),
      run('billing', { needs: ['triage'], if: 'inputs.vip || false' }),
      run('tech', { needs: ['triage'] }),
    ])
    expect(condition(billing, 'billing')).toBe(false)
    expect(evaluateCondition(billing?.if ?? '', { ...answer('billing'), inputs: { vip: true } })).toBe(true)
    expect(evaluateCondition(billing?.if ?? '', { ...answer('tech'), inputs: { vip: true } })).toBe(false)
  })

  test('its fallback is chosen like the others', () => {
    const nodes = nodesOf([
      triage({ fallback: 'human' }),
      ...['billing', 'tech', 'human'].map((name) => run(name, { needs: ['triage'] })),
    ])
    expect(nodes[0]).toMatchObject({ fallback: 'human', options: [{ step: 'billing' }, { step: 'tech' }] })
    expect(nodes.map((node) => condition(node, 'human'))).toEqual([true, false, false, true])
  })

  test('picks among the ways of a part that goes round', () => {
    const nodes = nodesOf(
      [
        triage({}, { next: ['billing', { step: 'tech', if: 'inputs.vip' }, 'log'] }),
        run('billing', { next: 'triage' }),
        run('tech', { next: 'triage' }),
        run('log', { next: 'triage' }),
      ],
      { maxTurns: 3 },
    )
    const ways = nodes[0]?.turns?.next ?? []
    expect(ways.map((way) => condition(way, 'billing'))).toEqual([true, false, true])
    expect(ways.map((way) => condition(way, 'tech'))).toEqual([false, false, true])
    expect(nodes.slice(1).map((node) => node.if)).toEqual([null, null, null])
  })

  test('gives a step and a reason, and nothing else', () => {
    const steps = (source: string) => [
      triage(),
      run('billing', { needs: ['triage'], env: { A: source } }),
      run('tech', { needs: ['triage'] }),
    ]
    expect(problemsOf(...steps('${{ steps.triage.output.reason }}'))).toEqual([])
    expect(problemsOf(...steps('${{ steps.triage.output.raeson }}'))).toEqual([expect.stringMatching(/reason\?/)])
  })

  const both = [run('billing', { needs: ['triage'] }), run('tech', { needs: ['triage'] })]
  test.each<[what: string, steps: unknown[], problem: RegExp]>([
    [
      'to a step that is not there',
      [triage({ to: { billing: 'x', tehc: 'y' } }), ...both],
      /route\.to\.tehc: .*no such step \(tech\?\)/,
    ],
    ['a fallback that is not there', [triage({ fallback: 'humn' }), ...both], /route\.fallback: .*no such step/],
    ['a step that does not need it', [triage(), run('billing'), both[1]], /route\.to\.billing: .*add triage to needs/],
    ['to nothing', [triage({ to: {} }), ...both], /route\.to: names no step/],
    ['for no reason', [triage({ to: { billing: '' } }), ...both], /route\.to\.billing: says nothing/],
    ['beside forEach', [triage({}, { forEach: [1] }), ...both], /forEach: stands beside route/],
    ['with a schema of its own', [triage({}, { outputSchema: {} }), ...both], /outputSchema: is for steps/],
    ['with an input', [triage({}, { with: {} }), ...both], /with: is for steps/],
    [
      'a condition that is too long with it',
      [triage(), run('billing', { needs: ['triage'], if: `"${'x'.repeat(4_080)}" != ""` }), both[1]],
      /steps\[1\]\.if: is longer/,
    ],
  ])('%s is refused', (_, steps, problem) => {
    expect(problemsOf(...steps)).toEqual([expect.stringMatching(problem)])
  })

  test('one that goes round with it has to be named in next', () => {
    const compiled = compile(
      [triage({}, { next: 'billing' }), run('billing', { next: ['triage', 'tech'] }), run('tech', { next: 'triage' })],
      { maxTurns: 2 },
    )
    expect(compiled.ok ? [] : compiled.problems.map((p) => p.message)).toEqual([
      'tech goes round with it: name it in next too',
    ])
  })

  test('its question is a template, what its steps are for is none', () => {
    const nodes = nodesOf([
      triage({ question: 'About ${{ inputs.text }}', to: { billing: '${{ nope', tech: 'x' } }),
      ...both,
    ])
    expect(nodes[0] && readsInputs(nodes[0])).toBe(true)
  })
})
