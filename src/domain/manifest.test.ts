import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure, type Problem } from './failure.ts'
import { LIMITS } from './limits.ts'
import { compileWorkflow, parseManifest, readManifest } from './manifest.ts'

const GOOD = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: repo-report }
spec:
  modules: { report: ./report.ts }
  inputs: { type: object, properties: { repo: { type: string, default: '.' } } }
  steps:
    - name: languages
      function: report.languages
      with: { repo: '\${{ inputs.repo }}' }
    - name: build
      needs: [languages]
      if: \${{ steps.languages.output.count > 0 }}
      forEach: \${{ steps.languages.output.dirs }}
      maxParallel: 4
      command: npm run build \${{ item }}
      env: { AT: '\${{ index }}' }
      retry: 3
      timeout: 1m30s
`

const problemsOf = (text: string): Problem[] => {
  const read = readManifest(text, { file: 'flow.yaml' })
  return read.ok ? [] : read.problems
}
const withSteps = (steps: string): string =>
  `apiVersion: orrery.dev/v1\nkind: Workflow\nmetadata: { name: w }\nspec:\n  steps:\n${steps}`
const step = (name: string, more: object = {}): object => ({ name, command: ['true'], ...more })
const workflow = (steps: unknown[], spec: object = {}): object => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name: 'w' },
  spec: { ...spec, steps },
})
const problemsIn = (value: unknown): Problem[] => {
  const compiled = compileWorkflow(value)
  return compiled.ok ? [] : compiled.problems
}

describe('a valid manifest', () => {
  test('becomes a definition with numbers for names and milliseconds for durations', () => {
    const { definition } = parseManifest(GOOD, { file: 'flow.yaml' })
    expect(definition).toMatchObject({
      namespace: 'default',
      name: 'repo-report',
      failFast: false,
      modules: { report: './report.ts' },
    })
    expect(definition.nodes[0]).toMatchObject({ kind: 'function', needs: [], refs: [], if: null, timeoutMs: null })
    expect(definition.nodes[1]).toMatchObject({
      kind: 'command',
      command: ['sh', '-c', 'npm run build ${{ item }}'],
      needs: [0],
      refs: [0],
      if: 'steps.languages.output.count > 0',
      forEach: '${{ steps.languages.output.dirs }}',
      maxParallel: 4,
      retry: { max: 3, initialMs: 500, maxMs: 30_000, factor: 2, jitter: 0.2, on: null },
      timeoutMs: 90_000,
      onFailure: 'fail',
      repeatable: true,
    })
  })

  test('may be JSON, and gives the same definition as a parsed body', () => {
    const body = workflow([step('a'), step('b', { needs: ['a', 'a'], stdin: '${{ steps.a.output.x }}' })])
    const fromText = readManifest(JSON.stringify(body), { file: 'w.json' })
    const fromBody = compileWorkflow(body)
    expect(fromText).toEqual(fromBody)
    expect(fromBody).toMatchObject({ ok: true, definition: { nodes: [{ needs: [] }, { needs: [0], refs: [0] }] } })
  })

  test('keeps every retry field and every field of a command', () => {
    const retry = { max: 2, initial: '1s', maxDelay: '1m', factor: 3, jitter: 0, on: ['step.exit_nonzero'] }
    const more = {
      retry,
      stdin: 'in',
      workdir: 'sub',
      keepOnFailure: '1h',
      artifacts: ['dist/**', { path: 'report.html', retention: '7d', when: 'always', optional: true }],
      runsOn: { region: 'eu' },
      queueTimeout: '10m',
      onFailure: 'continue',
      repeatable: false,
    }
    expect(compileWorkflow(workflow([step('a', more)]))).toMatchObject({
      definition: {
        nodes: [
          {
            retry: { max: 2, initialMs: 1000, maxMs: 60_000, factor: 3, jitter: 0, on: ['step.exit_nonzero'] },
            stdin: 'in',
            workdir: 'sub',
            keepOnFailureMs: 3_600_000,
            artifacts: [
              { path: 'dist/**', retentionMs: LIMITS.artifactRetentionMs, always: false, optional: false },
              { path: 'report.html', retentionMs: 7 * 24 * 3_600_000, always: true, optional: true },
            ],
            runsOn: { region: 'eu' },
            queueTimeoutMs: 600_000,
            onFailure: 'continue',
            repeatable: false,
          },
        ],
      },
    })
  })
})

describe('CFG-3: a manifest that is wrong', () => {
  test.each(['/etc/*', '../up', 'a/../../b', 'a\\b', ''])('a pattern of files %j that leads out is refused', (path) => {
    const compiled = compileWorkflow(workflow([step('a', { artifacts: [{ path }] })]))
    expect(compiled).toMatchObject({ ok: false, problems: [{ path: 'spec.steps[0].artifacts[0].path' }] })
  })

  test('names every problem at once, each with its line, column, path and what was meant', () => {
    const text = GOOD.replace('needs:', 'need:').replace('1m30s', '30').replace('inputs.repo', 'input.repo')
    expect(problemsOf(text)).toEqual([
      {
        code: 'expression.invalid',
        message: 'input is unknown here; expressions read inputs, steps, item, index, matrix, turn, event, run',
        path: 'spec.steps[0].with.repo',
        nearest: 'inputs',
        file: 'flow.yaml',
        line: 10,
        column: 21,
      },
      {
        code: 'manifest.invalid',
        message: '"need" is no key of spec.steps[1]',
        path: 'spec.steps[1].need',
        nearest: 'needs',
        file: 'flow.yaml',
        line: 12,
        column: 7,
      },
      expect.objectContaining({ code: 'workflow.reference_unknown', path: 'spec.steps[1].if', line: 13, column: 11 }),
      expect.objectContaining({
        code: 'workflow.reference_unknown',
        path: 'spec.steps[1].forEach',
        line: 14,
        column: 16,
      }),
      expect.objectContaining({
        message: 'must be a duration such as 30s, 5m or 1h30m; this is a number',
        line: 19,
        column: 16,
      }),
    ])
  })

  test('throws one failure that carries the problems', () => {
    expect(() => parseManifest('kind: Workflw', { file: 'x.yaml' })).toThrow(Failure)
    expect(problemsOf('kind: Workflw')).toContainEqual(
      expect.objectContaining({ path: 'kind', nearest: 'Workflow', message: 'must be Workflow', line: 1, column: 7 }),
    )
    expect(problemsOf('kind: Workflow').map((p) => `${p.path} ${p.message}`)).toEqual([
      'apiVersion is required',
      'metadata is required',
      'spec is required',
    ])
  })

  test('gives syntax errors their place', () => {
    expect(problemsOf('a: [1,\nb: "x')).toContainEqual(
      expect.objectContaining({ message: 'Missing closing "quote', path: '', line: 2, column: 6 }),
    )
    expect(problemsOf('a: 1\n b: 2')).toContainEqual(
      expect.objectContaining({ code: 'manifest.invalid', path: '', line: 1, column: 4 }),
    )
  })

  test.each([
    ['a duplicate key', 'kind: Workflow\nkind: Workflow', 'is there twice', 2, 1],
    ['a key that is no string', 'kind: Workflow\n1: x', 'must be a string', 2, 1],
    ['a prototype key', 'kind: Workflow\n__proto__: { a: 1 }', '__proto__', 2, 1],
    ['a merge key', 'a: &x { b: 1 }\nc:\n  <<: *x', 'merge keys', 3, 3],
    ['a NUL character', 'kind: Work\0flow', 'NUL', 1, 11],
    ['an alias of itself', 'a: &x [*x]', 'contains itself', 1, 8],
    ['an alias without an anchor', 'a: *x', 'x', 1, 4],
    ['a second document', 'a: 1\n---\nb: 1', 'more than one document', 2, 4],
    ['an inexact number', 'a: 12345678901234567890', 'too large to be exact', 1, 4],
    ['infinity', 'a: .inf', 'no such number', 1, 4],
    ['a tag nobody knows', 'a: !secret x', '!secret', 1, 4],
  ])('refuses %s with its place', (_, text, message, line, column) => {
    const found = problemsOf(text).find((p) => p.message.includes(message) || p.message.toLowerCase().includes(message))
    expect(found).toMatchObject({
      code: 'manifest.invalid',
      line,
      ...(message === 'more than one document' ? {} : { column }),
    })
  })

  test('says what fits together in a step, also when something else in it is wrong', () => {
    const found = problemsIn(
      workflow([
        { name: 'a' },
        { name: 'b', function: 'm.f', command: ['x'] },
        { name: 'c', command: ['x'], with: 1, maxParallel: 2, bogus: true },
        { name: 'd', function: 'm.f', env: {} },
      ]),
    )
    expect(found.map((p) => p.path).sort()).toEqual([
      'spec.steps[0]',
      'spec.steps[1].command',
      'spec.steps[2].bogus',
      'spec.steps[2].maxParallel',
      'spec.steps[2].with',
      'spec.steps[3].env',
    ])
  })

  test('names the nearest value of enums, failure codes and modules', () => {
    const steps = [
      step('a', { onFailure: 'contine', retry: { on: ['step.exit_nonzer'], mx: 1 } }),
      { name: 'b', function: 'reprot.f' },
    ]
    const near = Object.fromEntries(
      problemsIn(workflow(steps, { modules: { report: './r.ts' } })).map((p) => [p.path, p.nearest]),
    )
    expect(near).toEqual({
      'spec.steps[0].onFailure': 'continue',
      'spec.steps[0].retry.on[0]': 'step.exit_nonzero',
      'spec.steps[0].retry.mx': 'max',
      'spec.steps[1].function': 'report',
    })
  })

  test('checks the JSON Schemas that it holds', () => {
    const inputs = { type: 'object', properties: { a: { type: 'strin' }, b: { $ref: 'http://example.test/x' } } }
    const outputSchema = { type: 'object', minProprties: 1 }
    const found = problemsIn(workflow([step('a', { outputSchema })], { inputs }))
    expect(found.map((p) => p.path).sort()).toEqual([
      'spec.inputs.properties.a.type',
      'spec.inputs.properties.b.$ref',
      'spec.steps[0].outputSchema.minProprties',
    ])
    expect(problemsIn(workflow([step('a')], { inputs: { type: 'string' } }))).toMatchObject([
      { path: 'spec.inputs.type' },
    ])
  })

  test('knows where item may be read and what a condition gives', () => {
    const found = problemsIn(
      workflow([
        step('a', { stdin: '${{ item }}' }),
        step('b', { forEach: [1, 2], if: 'item > 1', stdin: '${{ item + index }}' }),
        step('c', { if: '1 + 1' }),
        step('d', { forEach: '${{ "x" }}' }),
        step('e', { stdin: 'a ${{ inputs.x' }),
        step('f', { if: 'a ${{ true }}' }),
      ]),
    )
    expect(found.map((p) => `${p.code} ${p.path}`)).toEqual([
      'expression.invalid spec.steps[0].stdin',
      'expression.invalid spec.steps[1].if',
      'expression.invalid spec.steps[2].if',
      'expression.invalid spec.steps[3].forEach',
      'expression.invalid spec.steps[4].stdin',
      'expression.invalid spec.steps[5].if',
    ])
  })
})

describe('RUN-4: a graph that is wrong', () => {
  test('names the path of a cycle, unknown and self dependencies and duplicates together, with lines', () => {
    const text = withSteps(`    - { name: a, command: x, needs: [b] }
    - { name: b, command: x, needs: [c] }
    - { name: c, command: x, needs: [a] }
    - { name: me, command: x, needs: [me] }
    - { name: a, command: x }
    - { name: late, command: x, needs: [buld] }
    - { name: build, command: x }
`)
    expect(problemsOf(text)).toEqual([
      expect.objectContaining({
        code: 'workflow.cycle',
        message: 'steps need each other: a → b → c → a',
        path: 'spec.steps[0].needs[0]',
        line: 6,
        column: 38,
      }),
      expect.objectContaining({
        code: 'workflow.cycle',
        message: 'me needs itself: me → me',
        path: 'spec.steps[3].needs[0]',
        line: 9,
        column: 39,
      }),
      expect.objectContaining({ code: 'workflow.duplicate_step', path: 'spec.steps[4].name', line: 10, column: 15 }),
      expect.objectContaining({
        code: 'workflow.reference_unknown',
        path: 'spec.steps[5].needs[0]',
        nearest: 'build',
        line: 11,
        column: 41,
      }),
    ])
  })

  test('is found in steps that are wrong in other ways', () => {
    const found = problemsIn(
      workflow([
        { name: 'a', needs: ['b'], bogus: 1 },
        { name: 'b', needs: ['a'] },
      ]),
    )
    expect(found.map((p) => p.code)).toContain('workflow.cycle')
  })
})

describe('hostile manifests', () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghi'].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]`).join('\n')}`
  test.each([
    ['an alias bomb', bomb],
    ['brackets without end', '['.repeat(1_000_000)],
    ['brackets just too deep', `${'['.repeat(100)}${']'.repeat(100)}`],
    ['dashes', '- '.repeat(500_000)],
    ['indentation', Array.from({ length: 2_000 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
    ['many keys', Array.from({ length: 50_000 }, (_, i) => `k${i}: 1`).join('\n')],
    ['bad escapes', `a: "${'\\x'.repeat(20_000)}"`],
    ['many documents', 'a: 1\n---\n'.repeat(10_000)],
    ['directives', '%YAML 1.1\n---\na: !!binary aGk='],
    ['very many bad expressions', withSteps(`    - { name: a, command: [${'"${{ x }}", '.repeat(60_000)}] }`)],
    ['very many unknown needs', withSteps(`    - { name: a, command: x, needs: [${'b,'.repeat(60_000)}] }`)],
    ['very many unknown codes', withSteps(`    - { name: a, command: x, retry: { on: [${'xx,'.repeat(60_000)}] } }`)],
    ['nothing', ''],
    ['a scalar', 'hello'],
  ])('%s: problems, not a crash', (_, text) => {
    const found = problemsOf(text)
    expect(found.length).toBeGreaterThan(0)
    expect(found.length).toBeLessThanOrEqual(2 * LIMITS.problemsMax)
    for (const p of found)
      expect(p).toMatchObject({ file: 'flow.yaml', line: expect.any(Number), column: expect.any(Number) })
  })

  test('a manifest over the limit is too large', () => {
    expect(problemsOf(`# ${'x'.repeat(LIMITS.manifestBytes)}`)).toMatchObject([
      { code: 'manifest.too_large', line: 1, column: 1 },
    ])
  })

  test('a body with what JSON cannot have is refused', () => {
    const circle: Record<string, unknown> = {}
    circle['self'] = circle
    const proto: unknown = JSON.parse('{"__proto__": {"a": 1}}')
    for (const value of [circle, proto, { a: undefined }, { a: 1n }, { a: Number.NaN }, new Map(), () => 1, undefined])
      expect(problemsIn(value)).toMatchObject([{ code: 'manifest.invalid' }])
  })

  test('any text gives problems or a definition', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' })), (text) => {
        expect(readManifest(text, { file: 'f' }).ok).toBe(false)
      }),
    )
  })

  test('any JSON gives problems or a definition, as text and as a body alike', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(compileWorkflow(value).ok).toBe(false)
        expect(readManifest(JSON.stringify(value), { file: 'f' }).ok).toBe(false)
      }),
    )
  })

  test('any mutation of a good manifest gives problems or a definition, and each problem has a place', () => {
    const cut = fc.record({
      at: fc.nat(GOOD.length),
      drop: fc.nat(12),
      put: fc.oneof(
        fc.string({ maxLength: 6 }),
        fc.constantFrom('${{', '}}', '[', '{', '&a', '*a', '- ', ': ', '\n', '"', "'"),
      ),
    })
    fc.assert(
      fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
        const text = cuts.reduce((t, { at, drop, put }) => t.slice(0, at) + put + t.slice(at + drop), GOOD)
        const read = readManifest(text, { file: 'f' })
        if (read.ok) return
        expect(read.problems.length).toBeGreaterThan(0)
        const lines = text.split(/\r\n|[\r\n]/)
        for (const p of read.problems) {
          expect(p.line).toBeGreaterThanOrEqual(1)
          expect(p.column).toBeGreaterThanOrEqual(1)
          expect(p.line).toBeLessThanOrEqual(lines.length + 1)
        }
      }),
      { numRuns: 500 },
    )
  })

  test('any value in any field gives problems or a definition', () => {
    const keys = [
      'name',
      'function',
      'with',
      'command',
      'env',
      'stdin',
      'workdir',
      'keepOnFailure',
      'artifacts',
      'needs',
      'if',
      'forEach',
      'maxParallel',
      'retry',
      'timeout',
      'queueTimeout',
      'outputSchema',
      'onFailure',
      'repeatable',
      'runsOn',
    ]
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom('${{ item }}', '${{ steps.a.output }}', '5s', 'a', { type: 'object' }),
    )
    fc.assert(
      fc.property(fc.array(fc.dictionary(fc.constantFrom(...keys), value), { maxLength: 4 }), (steps) => {
        const compiled = compileWorkflow(workflow(steps))
        if (!compiled.ok) expect(compiled.problems.length).toBeGreaterThan(0)
        else expect(compiled.definition.nodes).toHaveLength(steps.length)
      }),
      { numRuns: 500 },
    )
  })
})
