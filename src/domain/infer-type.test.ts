import { describe, expect, test } from 'vitest'
import { compileExpression } from './expression.ts'
import { inferType } from './infer-type.ts'
import { readManifest } from './manifest.ts'
import { variableTypes } from './variable-types.ts'

const INPUTS = {
  type: 'object',
  additionalProperties: false,
  properties: {
    version: { type: 'string' },
    count: { type: 'integer' },
    fast: { type: 'boolean' },
    maybe: { type: ['string', 'null'] },
    regions: { type: 'array', items: { type: 'string' } },
    target: { type: 'object', properties: { host: { type: 'string' } }, additionalProperties: false },
    labels: { type: 'object', properties: { team: { type: 'string' } } },
    free: {},
  },
}
const STEPS = [
  {
    name: 'build',
    outputSchema: { type: 'object', properties: { ok: { type: 'boolean' } }, additionalProperties: false },
  },
  { name: 'each', forEach: [1], outputSchema: { type: 'string' } },
  { name: 'loose' },
]
const TYPES = variableTypes(INPUTS, STEPS)

const failureOf = (source: string): { message: string; nearest?: string } | null => {
  const compiled = compileExpression(source)
  if (!compiled.ok) throw new Error(compiled.message)
  const inferred = inferType(compiled.expression.run.ast, TYPES)
  return inferred.ok ? null : inferred.failure
}

describe('what fails whatever the inputs', () => {
  test.for<[source: string, message: string, near?: string]>([
    ['inputs.versoin', 'inputs has no "versoin"; it has version, count', 'version'],
    ['inputs.target.hots', 'inputs.target has no "hots"; it has host', 'host'],
    ['inputs.target["hots"]', 'inputs.target has no "hots"', 'host'],
    ['steps.build.output.okay', 'steps.build.output has no "okay"; it has ok', 'ok'],
    ['inputs.version.major', 'inputs.version is a string, which has no members such as major'],
    ['inputs.maybe.x', 'inputs.maybe is a string or null'],
    ['inputs.count[0]', 'inputs.count is a number, which has no elements'],
    ['inputs.regions[0].name', 'inputs.regions[0] is a string'],
    ['steps.each.output.x', 'steps.each.output is a list'],
    ['inputs.version + 1', '+ does not take a string and a number'],
    ['inputs.count < inputs.version', '< does not take a number and a string'],
    ['inputs.fast - 1', '- does not take true or false and a number'],
    ['!inputs.count', '! is for true or false; inputs.count is a number'],
    ['-inputs.version', '- is for numbers; inputs.version is a string'],
    ['inputs.version in inputs.count', 'in looks into a list or a map; inputs.count is a number'],
    ['inputs.count ? 1 : 2', 'the condition inputs.count is a number, not true or false'],
    ['inputs.count.map(x, x)', 'map is not for this; inputs.count is a number'],
    ['size(inputs.fast)', 'size is for a list, a map or a string; inputs.fast is true or false'],
    ['string(inputs.nope)', 'inputs has no "nope"'],
    ['[inputs.nope]', 'inputs has no "nope"'],
    ['inputs.nope || inputs.neither', 'inputs has no "nope"'],
    ['inputs.fast ? inputs.nope : inputs.neither', 'inputs has no "nope"'],
  ])('%s', ([source, message, near]) => {
    const failure = failureOf(source)
    expect(failure?.message).toContain(message)
    expect(failure?.nearest).toBe(near)
  })
})

describe('what may succeed is left alone', () => {
  test.for([
    'inputs.version + "-" + string(inputs.count)',
    'inputs.labels.owner', // the map is open
    'inputs.free.anything[0].at.all + 1',
    'steps.loose.output.whatever',
    'inputs.fast || inputs.nope', // true makes up for it
    'inputs.fast ? inputs.version : inputs.nope',
    'has(inputs.nope)',
    'inputs.?nope.orValue("x")',
    'inputs.regions.map(r, r.whatever)', // of no region nothing is asked
    'inputs.maybe + "x"',
    'inputs.count == inputs.version',
    'inputs.regions + ["x"]',
    'inputs.fast < true',
    '[1].map(inputs, inputs + 1)',
    'cel.bind(x, inputs.version, x + "y")',
  ])('%s', (source) => expect(failureOf(source)).toBeNull())
})

test('a manifest tells each with its place and the nearest name, beside its other problems', () => {
  const text = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: typed }
spec:
  modules: { m: ./m.ts }
  inputs:
    type: object
    additionalProperties: false
    properties: { version: { type: string }, regions: { type: array } }
  steps:
    - name: build
      function: m.build
      with: { tag: 'v\${{ inputs.versoin }}' }
      outputSchema: { type: object, properties: { ok: { type: boolean } }, additionalProperties: false }
    - name: ship
      needs: [build]
      if: inputs.version
      forEach: \${{ inputs.version }}
      function: m.ship
      with: \${{ steps.build.output.okay }}
`
  const read = readManifest(text, { file: 'w.yaml' })
  if (read.ok) throw new Error('it was taken')
  expect(
    read.problems.map(({ line, column, code, message, nearest }) => [line, column, code, message, nearest]),
  ).toEqual([
    [
      13,
      20,
      'expression.invalid',
      '${{ inputs.versoin }} never has a value: inputs has no "versoin"; it has version, regions',
      'version',
    ],
    [17, 11, 'expression.invalid', '${{ inputs.version }} gives a string, not true or false', undefined],
    [18, 16, 'expression.invalid', '${{ inputs.version }} gives a string, not a list', undefined],
    [
      20,
      13,
      'expression.invalid',
      '${{ steps.build.output.okay }} never has a value: steps.build.output has no "okay"; it has ok',
      'ok',
    ],
  ])
})

test('types and schemas that say nothing certain are taken for anything', () => {
  for (const schema of [
    { enum: [] },
    { type: 'string', const: 1 },
    { anyOf: [{ type: 'string' }] },
    { $ref: '#/$defs/x' },
  ]) {
    const types = variableTypes({ properties: { x: schema } }, [])
    const compiled = compileExpression('inputs.x.y')
    if (!compiled.ok) throw new Error(compiled.message)
    expect(inferType(compiled.expression.run.ast, types).ok, JSON.stringify(schema)).toBe(true)
  }
})
