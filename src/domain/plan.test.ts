import { describe, expect, test } from 'vitest'
import { parseManifest } from './manifest.ts'
import { planOf } from './plan.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: ship }
spec:
  timeout: 1h
  steps:
    - { name: last, command: 'true', needs: [build, ask], join: any }
    - { name: build, function: tools.build, matrix: { os: [linux, mac], level: '\${{ inputs.levels }}' }, runsOn: { gpu: 'yes' } }
    - { name: dry, command: 'true', if: '\${{ !inputs.real }}' }
    - { name: maybe, command: 'true', needs: [build], if: '\${{ size(steps.build.output) > 1 }}' }
    - { name: each, command: 'true', forEach: '\${{ inputs.missing }}' }
    - { name: ask, approval: Ship it?, needs: [maybe] }
    - { name: again, command: 'true', loop: { until: 'turn.output > 1', max: 3 } }
`

const ROUND = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: letter }
spec:
  maxTurns: 4
  steps:
    - { name: publish, function: l.publish, needs: [review] }
    - { name: draft, function: l.draft, needs: [topic], next: review, maxTurns: 6 }
    - { name: review, function: l.review, next: [{ step: draft, if: '!steps.review.output.ok' }] }
    - { name: topic, function: l.topic }
`

test('the plan of a graph that goes round has its steps in one stage, with what may follow each turn', () => {
  const plan = planOf(parseManifest(ROUND, { file: 'letter.yaml' }).definition, {})
  expect(plan.steps.map((s) => [s.stage, s.name, s.verdict, s.activations])).toEqual([
    [1, 'topic', { is: 'runs' }, null],
    [2, 'draft', { is: 'runs' }, 'open'],
    [2, 'review', { is: 'open', on: ['next'] }, 'open'],
    [3, 'publish', { is: 'runs' }, null],
  ])
  expect(plan.steps.map((s) => s.turns)).toEqual([
    null,
    { max: 6, next: [{ step: 'review', if: null }] },
    { max: 4, next: [{ step: 'draft', if: '!steps.review.output.ok' }] },
    null,
  ])
})

describe('a plan', () => {
  const { definition } = parseManifest(FLOW, { file: 'flow.yaml' })
  const plan = planOf(definition, { levels: [1, 2, 3], real: true })
  const step = (name: string) => plan.steps.find((s) => s.name === name)

  test('has its steps in an order in which needs come first', () => {
    expect(plan.steps.map((s) => [s.stage, s.name])).toEqual([
      [1, 'build'],
      [1, 'dry'],
      [1, 'each'],
      [1, 'again'],
      [2, 'maybe'],
      [3, 'ask'],
      [4, 'last'],
    ])
    expect(plan).toMatchObject({ workflow: 'ship', timeoutMs: 3_600_000, inputs: { real: true } })
  })

  test('says which steps run, which are skipped, and which only the run can tell', () => {
    expect(step('build')).toMatchObject({ verdict: { is: 'runs' }, activations: 6 })
    expect(step('dry')).toMatchObject({ verdict: { is: 'skipped', because: 'if is false: !inputs.real' } })
    expect(step('maybe')).toMatchObject({ verdict: { is: 'open', on: ['steps.build'] } })
    expect(step('again')).toMatchObject({ verdict: { is: 'runs' }, activations: 'open' })
    expect(step('each')).toMatchObject({
      verdict: { is: 'fails', failure: { code: 'expression.unresolved', evidence: { path: 'inputs.missing' } } },
    })
  })

  test('says what a command has round it, and what it hands on and is handed', () => {
    const flow = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: w }
spec:
  steps:
    - { name: a, command: make, setUp: [npm ci, npm test], tearDown: rm -rf x, output: json, exportEnv: true }
    - { name: b, command: make, needs: [a], output: { file: out/report.json } }
    - { name: c, command: make, needs: [b], artifacts: ['*'], output: files }
    - { name: d, function: m.f, needs: [c], files: [{ from: c, path: 'x/**' }] }
`
    const planned = planOf(parseManifest(flow, { file: 'flow.yaml' }).definition, {})
    expect(planned.steps.map((s) => s.extras)).toEqual([
      { setUp: 2, tearDown: 1, output: 'stdout', exportsEnv: true },
      { output: 'out/report.json', envFrom: ['a'] },
      { output: 'artifacts', envFrom: ['a'] },
      { files: ['c: x/**'] },
    ])
    expect(plan.steps.map((s) => s.extras).filter(Boolean)).toEqual([])
  })

  test('says what a worker must offer, and how many needs are enough', () => {
    expect(step('build')?.requires).toEqual({ backend: 'function', module: 'tools', labels: { gpu: 'yes' } })
    expect(step('ask')?.requires).toBeNull()
    expect(step('last')).toMatchObject({ needs: ['build', 'ask'], need: 1, requires: { backend: 'process' } })
  })
})
