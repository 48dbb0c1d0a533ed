import { describe, expect, test } from 'vitest'
import { compileWorkflow } from './manifest.ts'
import { conflictsOf } from './schema.ts'
import { requirementsOf } from './workflow.ts'

const workflow = (steps: unknown[], spec: object = {}): object => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: 'w' },
  spec: { ...spec, steps },
})
const nodesOf = (steps: unknown[], spec: object = {}) => {
  const compiled = compileWorkflow(workflow(steps, spec))
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  return compiled.definition
}
const problemsOf = (...steps: unknown[]): string[] => {
  const compiled = compileWorkflow(workflow(steps))
  return compiled.ok ? [] : compiled.problems.map((p) => `${p.path}: ${p.message}`)
}
const run = (name: string, more: object = {}): object => ({ name, command: ['true'], ...more })

describe('what a step may be', () => {
  test('a wait for a time, short and long', () => {
    const { nodes } = nodesOf([
      { name: 'a', wait: '1h30m' },
      { name: 'b', wait: { until: '2026-01-31T08:00:00Z' } },
      { name: 'c', wait: { duration: '${{ inputs.delay }}' } },
    ])
    expect(nodes.map((n) => n.kind === 'wait' && n.for)).toEqual([
      { type: 'duration', duration: '1h30m' },
      { type: 'until', at: '2026-01-31T08:00:00Z' },
      { type: 'duration', duration: '${{ inputs.delay }}' },
    ])
  })

  test('a wait for an event', () => {
    const { nodes } = nodesOf([
      { name: 'a', wait: { event: 'paid', match: '${{ event.payload.id == inputs.id }}', timeout: '2d' } },
    ])
    expect(nodes[0]).toMatchObject({
      for: { type: 'event', name: 'paid', match: 'event.payload.id == inputs.id', timeoutMs: 172_800_000 },
    })
  })

  test('an approval, short and long', () => {
    const long = {
      message: 'Ship ${{ inputs.v }}?',
      approvers: ['ann', 'admin'],
      expires: '1d',
      default: 'approve',
      inputs: { type: 'object' },
    }
    const { nodes } = nodesOf([
      { name: 'a', approval: 'Ship?' },
      { name: 'b', approval: long },
    ])
    expect(nodes[0]).toMatchObject({ kind: 'approval', message: 'Ship?', approvers: null, onExpiry: 'deny' })
    expect(nodes[1]).toMatchObject({
      approvers: ['ann', 'admin'],
      expiresMs: 86_400_000,
      onExpiry: 'approve',
      fields: { type: 'object' },
    })
  })

  test('a run of another workflow, by name or by hash', () => {
    const hash = 'a'.repeat(43)
    const { nodes } = nodesOf([
      { name: 'a', workflow: 'other', with: { n: 1 }, timeout: '5m', retry: 2 },
      { name: 'b', definition: hash },
    ])
    expect(nodes[0]).toMatchObject({ kind: 'workflow', ref: { name: 'other' }, with: { n: 1 }, timeoutMs: 300_000 })
    expect(nodes[1]).toMatchObject({ kind: 'workflow', ref: { hash }, with: {} })
  })

  test('a run of a version, or of a workflow of another namespace', () => {
    const { nodes } = nodesOf([
      { name: 'a', workflow: 'other@3' },
      { name: 'b', workflow: 'ops/other' },
      { name: 'c', workflow: 'ops/other@12' },
    ])
    expect(nodes.map((n) => (n.kind === 'workflow' ? n.ref : null))).toEqual([
      { name: 'other', version: 3 },
      { name: 'other', namespace: 'ops' },
      { name: 'other', namespace: 'ops', version: 12 },
    ])
  })

  test.each(['other@0', 'other@', 'a/b/c', '/other', 'Other', 'other@latest'])(
    '%s is no name of a workflow',
    (name) => {
      expect(problemsOf({ name: 'a', workflow: name }).join()).toContain('deploy@2')
    },
  )

  test('a matrix or a loop of work', () => {
    const { nodes } = nodesOf([
      run('a', { matrix: { os: ['x'], v: '${{ inputs.v }}', include: [{ os: 'y' }], exclude: [{ v: 1 }] } }),
      run('b', {
        loop: { until: '${{ turn.output == 1 && turn.index > 2 }}', max: 5 },
        env: { A: '${{ turn.index }}' },
      }),
    ])
    expect(nodes[0]?.matrix).toEqual({
      axes: { os: ['x'], v: '${{ inputs.v }}' },
      include: [{ os: 'y' }],
      exclude: [{ v: 1 }],
    })
    expect(nodes[1]?.loop).toEqual({ until: 'turn.output == 1 && turn.index > 2', max: 5 })
  })

  test.each([
    ['all', null],
    ['any', { need: 1, rest: 'finish' }],
    [{ count: 2 }, { need: 2, rest: 'finish' }],
    [{ percent: 50 }, { need: 2, rest: 'finish' }],
    [{ percent: 1 }, { need: 1, rest: 'finish' }],
  ])('a join of %j', (join, expected) => {
    const steps = [run('a'), run('b'), run('c'), run('d', { needs: ['a', 'b', 'c'], join })]
    expect(nodesOf(steps).nodes[3]?.join).toEqual(expected)
  })

  test('a time for the whole run, and rest: cancel', () => {
    const { timeoutMs, nodes } = nodesOf([run('a'), run('b', { needs: ['a'], join: 'any', rest: 'cancel' })], {
      timeout: '2h',
    })
    expect(timeoutMs).toBe(7_200_000)
    expect(nodes[1]?.join).toEqual({ need: 1, rest: 'cancel' })
  })
})

describe('what is wrong is told with its place', () => {
  test.each<[string, object, string]>([
    ['two kinds', run('a', { wait: '1s' }), 'spec.steps[0].wait: stands beside command; keep one of them'],
    [
      'a key of another kind',
      { name: 'a', wait: '1s', retry: 2 },
      'spec.steps[0].retry: is for steps with a function, a command, an agent, a tool, a route, a workflow or a definition only',
    ],
    [
      'a wait for two things',
      { name: 'a', wait: { duration: '1s', event: 'x' } },
      'spec.steps[0].wait: needs exactly one of duration, until and event',
    ],
    [
      'a match without an event',
      { name: 'a', wait: { duration: '1s', match: 'true' } },
      'spec.steps[0].wait: match is for waiting for an event only',
    ],
    [
      'no duration',
      { name: 'a', wait: 'soon' },
      'spec.steps[0].wait.duration: is no duration; write for example 30s, 5m or 1h30m, or one ${{ }} that gives such a text',
    ],
    [
      'a time without its zone',
      { name: 'a', wait: { until: '2026-01-31T08:00:00' } },
      'spec.steps[0].wait.until: is no time such as 2026-01-31T08:00:00Z',
    ],
    [
      'a default without an expiry',
      { name: 'a', approval: { message: 'x', default: 'deny' } },
      'spec.steps[0].approval: default is what counts after expires, which is missing',
    ],
    ['a join without needs', run('a', { join: 'any' }), 'spec.steps[0].join: is for steps that need others'],
    [
      'rest of all',
      run('a', { rest: 'cancel' }),
      'spec.steps[0].rest: is for a join of any, a count or a percentage: a join of all has no rest',
    ],
    [
      'forEach and loop',
      run('a', { forEach: [1], loop: { until: 'true', max: 2 } }),
      'spec.steps[0].loop: stands beside forEach; keep one of forEach, matrix and loop',
    ],
    [
      'an axis that is no list',
      run('a', { matrix: { os: 3 } }),
      'spec.steps[0].matrix: each axis must be a list, or one ${{ }} that gives one',
    ],
    [
      'turn without a loop',
      run('a', { env: { A: '${{ turn.index }}' } }),
      'spec.steps[0].env.A: turn has no value here: the step has no loop',
    ],
    [
      'matrix without one',
      run('a', { env: { A: '${{ matrix.os }}' } }),
      'spec.steps[0].env.A: matrix has no value here: the step has no matrix',
    ],
    [
      'event outside match',
      { name: 'a', wait: { event: '${{ event.name }}' } },
      'spec.steps[0].wait.event: event has no value here: only wait.match can read it',
    ],
    [
      'until that is a text',
      run('a', { loop: { until: '${{ "x" }}', max: 2 } }),
      'spec.steps[0].loop.until: ${{ "x" }} gives string, not true or false',
    ],
    [
      'what a turn does not have',
      run('a', { loop: { until: 'turn.outputs == 1', max: 2 } }),
      'spec.steps[0].loop.until: turn has no "outputs"; it has index, output',
    ],
    [
      'a schema that is none',
      { name: 'a', approval: { message: 'x', inputs: { type: 'objekt' } } },
      'spec.steps[0].approval.inputs.type',
    ],
  ])('%s', (_, step, problem) => {
    expect(problemsOf(step).join('\n')).toContain(problem)
  })

  test('a count that can never be', () => {
    expect(problemsOf(run('a'), run('b', { needs: ['a'], join: { count: 2 } }))).toEqual([
      'spec.steps[1].join: wants 2 of 1 needs, which can never be',
    ])
  })

  test('an unknown key of a part is answered with the nearest', () => {
    const compiled = compileWorkflow(workflow([{ name: 'a', approval: { message: 'x', expire: '1d' } }]))
    expect(compiled).toMatchObject({ problems: [{ path: 'spec.steps[0].approval.expire', nearest: 'expires' }] })
  })

  test('a step of no kind is told what kinds there are', () => {
    expect(conflictsOf({ name: 'a' })[0]?.message).toContain('wait, approval, workflow')
  })
})

describe('a command with more than itself', () => {
  test('has commands before and after it, each as a command is written', () => {
    const { nodes } = nodesOf([
      run('a', { setUp: ['npm ci', ['make', '-j']], tearDown: 'rm -rf tmp', tearDownTimeout: '5s' }),
      run('b', { tearDown: ['x'] }),
      run('c'),
    ])
    expect(nodes[0]).toMatchObject({
      setUp: [
        ['sh', '-c', 'npm ci'],
        ['make', '-j'],
      ],
      tearDown: { commands: [['sh', '-c', 'rm -rf tmp']], timeoutMs: 5_000 },
    })
    expect(nodes[1]).toMatchObject({ tearDown: { timeoutMs: 60_000 } })
    for (const key of ['setUp', 'tearDown', 'output', 'exportEnv', 'importEnv'])
      expect(nodes[2]).not.toHaveProperty(key)
  })

  test('says what its output is', () => {
    const { nodes } = nodesOf([
      run('a', { output: 'json' }),
      run('b', { output: 'text' }),
      run('c', { output: { file: 'out/report.json' } }),
      run('d', { output: { file: 'notes.txt', as: 'text' } }),
      run('e', { output: 'files', artifacts: ['*'] }),
    ])
    expect(nodes.map((n) => n.kind === 'command' && n.output)).toEqual([
      { from: 'stdout', as: 'json' },
      { from: 'stdout', as: 'text' },
      { from: 'file', path: 'out/report.json', as: 'json' },
      { from: 'file', path: 'notes.txt', as: 'text' },
      { from: 'artifacts' },
    ])
  })

  test('hands its variables on to the commands behind it, and to no others', () => {
    const { nodes } = nodesOf([
      run('a', { exportEnv: true }),
      run('b', { needs: ['a'] }),
      { name: 'nap', wait: '1s', needs: ['b'] },
      run('c', { needs: ['nap'], exportEnv: true }),
      run('d', { needs: ['c'] }),
      run('e', { exportEnv: false }),
    ])
    expect(nodes.map((n) => n.kind === 'command' && n.importEnv)).toEqual([
      undefined,
      [0],
      false,
      [0],
      [0, 3],
      undefined,
    ])
  })

  test('asks for a worker that knows what it uses, and a plain one does not', () => {
    const definition = nodesOf([
      run('a', { setUp: 'x', output: 'json', exportEnv: true }),
      run('b', { tearDown: 'x' }),
      run('c', { needs: ['a'] }),
    ])
    expect(definition.nodes.map((n) => requirementsOf(definition, n).features)).toEqual([
      ['stages', 'output', 'exportEnv'],
      ['stages'],
      undefined,
    ])
  })

  test.each([
    ['nothing before it', run('a', { setUp: [] }), 'spec.steps[0].setUp'],
    ['an empty command', run('a', { setUp: [[]] }), 'spec.steps[0].setUp[0]'],
    ['too many', run('a', { tearDown: Array.from({ length: 21 }, () => 'x') }), 'spec.steps[0].tearDown'],
    ['a time without a tear-down', run('a', { tearDownTimeout: '5s' }), 'is for steps with a tearDown only'],
    ['a tear-down of days', run('a', { tearDown: 'x', tearDownTimeout: '25h' }), 'is longer than a day'],
    ['an unknown output', run('a', { output: 'yaml' }), 'must be one of json, text, files'],
    ['a file outside', run('a', { output: { file: '../x' } }), 'spec.steps[0].output'],
    ['files that are none', run('a', { output: 'files' }), 'lists what artifacts names, which is missing'],
    ['variables of many', run('a', { exportEnv: true, forEach: [1] }), 'stands beside forEach'],
    ['a template that is none', run('a', { setUp: ['echo ${{ nope }}'] }), 'spec.steps[0].setUp[0]'],
  ])('%s is refused', (_, step, problem) => {
    expect(problemsOf(step).join('\n')).toContain(problem)
  })

  test.each(['setUp', 'tearDown', 'tearDownTimeout', 'output', 'exportEnv'])('%s is for commands alone', (key) => {
    const value = { tearDownTimeout: '5s', output: 'json', exportEnv: true }[key] ?? 'x'
    expect(problemsOf({ name: 'a', function: 'm.f', [key]: value }).join('\n')).toContain(
      `${key}: is for steps with a command only`,
    )
  })
})

describe('files of earlier steps', () => {
  test('are named by step, pattern and folder, for commands and functions', () => {
    const { nodes } = nodesOf([
      run('a', { artifacts: ['*'] }),
      run('b', { needs: ['a'] }),
      run('c', { needs: ['b'], files: [{ from: 'a' }, { from: 'b', path: 'dist/**', to: 'in/', optional: true }] }),
      { name: 'd', function: 'm.f', needs: ['c'], files: [{ from: 'c', path: 'x', to: 'a/b' }] },
    ])
    expect(nodes.map((n) => 'files' in n && n.files)).toEqual([
      false,
      false,
      [
        { from: 0, path: '**', to: '', optional: false },
        { from: 1, path: 'dist/**', to: 'in', optional: true },
      ],
      [{ from: 2, path: 'x', to: 'a/b', optional: false }],
    ])
  })

  test('want a worker that knows of them', () => {
    const definition = nodesOf([run('a'), { name: 'b', function: 'm.f', needs: ['a'], files: [{ from: 'a' }] }])
    expect(definition.nodes.map((n) => requirementsOf(definition, n).features)).toEqual([undefined, ['files']])
  })

  test.each([
    ['of nobody', { from: 'z' }, 'there is no such step'],
    ['of a step that is not before it', { from: 'later' }, 'which is not upstream; add later to needs'],
    ['from outside', { from: 'a', path: '../x' }, 'must be a pattern over the names of files'],
    ['by braces', { from: 'a', path: 'dist/{a,b}' }, 'spec.steps[1].files[0].path'],
    ['by brackets', { from: 'a', path: '[ab]' }, 'knows *, ? and ** only'],
    ['to outside', { from: 'a', to: '../x' }, 'must be a folder below the workspace'],
    ['to the root', { from: 'a', to: '/x' }, 'must be a folder below the workspace'],
    ['to here', { from: 'a', to: 'x/./y' }, 'must be a folder below the workspace'],
  ])('%s are refused', (_, want, problem) => {
    expect(problemsOf(run('a'), run('b', { needs: ['a'], files: [want] }), run('later')).join('\n')).toContain(problem)
  })

  test('are for work alone', () => {
    expect(problemsOf(run('a'), { name: 'b', wait: '1s', needs: ['a'], files: [{ from: 'a' }] }).join('\n')).toContain(
      'files: is for steps with a function or a command only',
    )
  })
})

describe('a graph that goes round', () => {
  const round = (first: object = {}, spec: object = { maxTurns: 5 }) =>
    workflow(
      [
        run('draft', { next: 'review', ...first }),
        run('review', { next: [{ step: 'draft', if: '${{ turn.index < 2 }}' }] }),
        run('after', { needs: ['review'], env: { D: '${{ steps.draft.state }}' } }),
      ],
      spec,
    )
  const told = (value: object): string[] => {
    const compiled = compileWorkflow(value)
    return compiled.ok ? [] : compiled.problems.map((p) => `${p.code} ${p.path}: ${p.message}`)
  }

  test('is compiled with its bound, what begins it and what may follow', () => {
    const compiled = compileWorkflow(round({ maxTurns: 9 }))
    expect(compiled.ok && compiled.definition.nodes.map((n) => n.turns)).toEqual([
      { max: 9, begins: true, next: [{ node: 1, if: null }] },
      { max: 5, begins: false, next: [{ node: 0, if: 'turn.index < 2' }] },
      undefined,
    ])
  })

  test('without maxTurns is refused, with the way and what to do; one bound on the way is enough', () => {
    const [problem, ...others] = told(round({}, {}))
    expect(others).toEqual([])
    expect(problem).toBe(
      'workflow.cycle spec.steps[0].next: next goes round without end: draft → review → draft; give the workflow, or a step on this way, maxTurns',
    )
    expect(told(round({ maxTurns: 3 }, {}))).toEqual([])
    expect(told(workflow([run('a', { next: ['a'] })]))).toEqual([
      'workflow.cycle spec.steps[0].next[0]: next goes round without end: a → a; give the workflow, or a step on this way, maxTurns',
    ])
  })

  test('next that never leads back needs no bound', () => {
    const compiled = compileWorkflow(workflow([run('a', { next: ['b', 'c'] }), run('b'), run('c', { next: 'b' })]))
    expect(compiled.ok && compiled.definition.nodes.map((n) => n.turns?.begins)).toEqual([true, false, false])
  })

  test('its steps may read each other and themselves, and whatever one of them needs; turn is theirs', () => {
    const reads = { env: { A: '${{ steps.draft.output }}', B: '${{ steps.topic.output }}', C: '${{ turn.index }}' } }
    const steps = [
      run('topic'),
      run('draft', { next: 'review', ...reads }),
      run('review', { needs: ['topic'], next: 'draft', ...reads }),
    ]
    expect(told(workflow(steps, { maxTurns: 2 }))).toEqual([])
  })

  test('what a step gives before its first turn is null, whatever its outputSchema says', () => {
    const outputSchema = { type: 'string' }
    const first = "${{ steps.draft.output == null ? 'none' : steps.draft.output }}"
    const steps = [
      run('draft', { next: 'review', outputSchema, env: { LAST: first } }),
      run('review', { next: 'draft' }),
    ]
    expect(told(workflow(steps, { maxTurns: 2 }))).toEqual([])
  })

  test.each<[string, object, string]>([
    [
      'an unknown step',
      round({ next: ['revew'] }),
      'workflow.reference_unknown spec.steps[0].next[0]: draft names in next "revew", but there is no such step',
    ],
    [
      'needs inside of it',
      workflow([run('a', { next: 'b' }), run('b', { needs: ['a'], next: 'a' })], { maxTurns: 2 }),
      'workflow.cycle spec.steps[1].needs[0]: b needs a, and next joins the two: name b in next of a instead',
    ],
    [
      'a way out and in again by needs',
      workflow([run('a', { next: 'b' }), run('x', { needs: ['a'] }), run('b', { needs: ['x'] })]),
      'workflow.cycle spec.steps[0]: steps need each other: a → x → a',
    ],
    [
      'a way round that nothing leads into',
      workflow([run('a', { next: 'b' }), run('b'), run('c', { next: 'd' }), run('d', { next: ['c', 'b'] })], {
        maxTurns: 2,
      }),
      'manifest.invalid spec.steps[2]: no way leads to c: of the steps that next joins to it a begins; name c in next of one that is reached',
    ],
    [
      'a way round that leads to the first step, where each is named',
      workflow([run('a', { next: 'a' }), run('b', { next: 'c' }), run('c', { next: ['b', 'a'] })], { maxTurns: 2 }),
      'manifest.invalid spec.steps[1]: no way leads to b: of the steps that next joins to it a begins; name b in next of one that is reached',
    ],
    [
      'a forEach',
      round({ forEach: [1] }),
      'manifest.invalid spec.steps[0].forEach: cannot be in a step that next joins to others: it takes its turns one by one',
    ],
    [
      'variables that are handed on',
      round({ exportEnv: true }),
      'manifest.invalid spec.steps[0].exportEnv: cannot be in a step that next joins to others: it takes its turns one by one',
    ],
    [
      'a loop of a step that is only named',
      workflow([run('a', { next: 'b' }), run('b', { loop: { until: 'true', max: 2 } })]),
      'manifest.invalid spec.steps[1].loop: cannot be in a step that next joins to others: it takes its turns one by one',
    ],
    [
      'a rest that would cancel it',
      workflow([
        run('a', { next: 'b' }),
        run('b'),
        run('c'),
        run('d', { needs: ['c', 'b'], join: 'any', rest: 'cancel' }),
      ]),
      'manifest.invalid spec.steps[3].needs[1]: cannot be canceled by rest: next joins it to others, and they end together',
    ],
    [
      'maxTurns of the workflow for nothing',
      workflow([run('a')], { maxTurns: 3 }),
      'manifest.invalid spec.maxTurns: is for workflows in which steps name others with next',
    ],
    [
      'maxTurns of a step for nothing',
      workflow([run('a', { maxTurns: 3 })]),
      'manifest.invalid spec.steps[0].maxTurns: is for steps that next joins to others only',
    ],
    [
      'a condition that gives no truth',
      round({ next: [{ step: 'review', if: '1 + 1' }] }),
      'expression.invalid spec.steps[0].next[0].if: ${{ 1 + 1 }} gives int, not true or false',
    ],
    [
      'turn outside of it',
      workflow([run('a', { next: 'b' }), run('b'), run('c', { env: { A: '${{ turn.index }}' } })]),
      'expression.invalid spec.steps[2].env.A: turn has no value here: the step has no loop, and no next names it',
    ],
    ['too many turns', round({}, { maxTurns: 1_001 }), 'manifest.invalid spec.maxTurns: must be at most 1000'],
    ['an empty next', round({ next: [] }), 'manifest.invalid spec.steps[0].next: names no step; leave it out'],
    [
      'an unknown key',
      round({ next: [{ step: 'review', otherwise: 'x' }] }),
      'manifest.invalid spec.steps[0].next[0].otherwise: "otherwise" is no key of spec.steps[0].next[0]',
    ],
  ])('%s', (_, value, problem) => {
    expect(told(value)).toContain(problem)
  })
})
