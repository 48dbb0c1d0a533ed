import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Json, JsonObject } from '../../src/base/json.ts'
import { compileExpression, type Scope } from '../../src/domain/expression.ts'
import { checkInputs } from '../../src/domain/inputs.ts'
import { evaluateCondition, evaluateTemplate } from '../../src/domain/template.ts'
import { compileStepExpressions } from '../../src/domain/templates-of-step.ts'
import { variableTypes } from '../../src/domain/variable-types.ts'

const NAMES = ['a', 'b', 'c', 'size'] as const
const name = fc.constantFrom(...NAMES)
const scalar: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, false, '', 'x', 'xy', 0, 1, -1.5),
  fc.integer({ min: -9, max: 9 }),
)

/** A schema beside a value that fits it, most of the time: what does not is left out below. */
interface Typed {
  schema: JsonObject
  values: Json[]
}

const OF_TYPE: Record<string, fc.Arbitrary<Json>> = {
  string: fc.constantFrom('', 'x', 'xy'),
  number: fc.constantFrom(0, 1, -1.5),
  integer: fc.integer({ min: -9, max: 9 }),
  boolean: fc.boolean(),
  null: fc.constant(null),
}
const many = <T>(arbitrary: fc.Arbitrary<T>) => fc.array(arbitrary, { minLength: 3, maxLength: 5 })

const simple: fc.Arbitrary<Typed> = fc.oneof(
  fc
    .constantFrom(...Object.keys(OF_TYPE))
    .chain((type) => many(OF_TYPE[type] ?? scalar).map((values) => ({ schema: { type }, values }))),
  fc
    .uniqueArray(fc.constantFrom(...Object.keys(OF_TYPE)), { minLength: 2, maxLength: 3 })
    .chain((type) =>
      many(fc.oneof(...type.map((t) => OF_TYPE[t] ?? scalar))).map((values) => ({ schema: { type }, values })),
    ),
  many(scalar).map((values) => ({ schema: { enum: [...new Set(values)] }, values })),
  many(scalar).map((values) => ({ schema: {}, values })),
  many(scalar).map((values) => ({ schema: { anyOf: [{ type: 'string' }, {}] }, values })),
  many(fc.constantFrom(null, 'x')).map((values) => ({ schema: { type: 'string', nullable: true }, values })),
)

const typed: fc.Arbitrary<Typed> = fc.letrec<{ any: Typed }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    simple,
    objectOf(tie('any')),
    tie('any').map(({ schema, values }) => ({
      schema: { type: 'array', items: schema },
      values: [[], ...values.map((v) => [v]), values],
    })),
  ),
})).any

function objectOf(member: fc.Arbitrary<Typed>): fc.Arbitrary<Typed> {
  return fc.tuple(fc.dictionary(name, member, { minKeys: 1, maxKeys: 3 }), fc.boolean()).map(([members, isClosed]) => {
    const entries = Object.entries(members)
    const pick = (i: number) =>
      Object.fromEntries(entries.map(([key, { values }]) => [key, values[i % values.length] ?? null]))
    return {
      schema: {
        type: 'object',
        properties: Object.fromEntries(entries.map(([key, { schema }]) => [key, schema])),
        ...(isClosed ? { additionalProperties: false } : {}),
      },
      // Once with something that no schema speaks of: an open one takes it.
      values: [{}, ...[0, 1, 2, 3].map(pick), ...(isClosed ? [] : [{ ...pick(0), c: 'x', b: [1], a: true }])],
    }
  })
}

const path = fc
  .tuple(
    fc.constantFrom('inputs', 'inputs', 'steps.s.output', 'steps.s'),
    fc.array(
      fc.oneof(
        { weight: 5, arbitrary: name.map((n) => `.${n}`) },
        name.map((n) => `["${n}"]`),
        fc.constantFrom('[0]', '[1]'),
      ),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([root, parts]) => `${root}${parts.join('')}`)

const source: fc.Arbitrary<string> = fc.letrec<{ any: string }>((tie) => {
  const any = tie('any')
  return {
    any: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      { weight: 4, arbitrary: path },
      fc.constantFrom('1', '1.5', '"x"', 'true', 'false', 'null', '[1, "x"]', '{"a": 1}', 'run.id', 'steps.s.state'),
      fc
        .tuple(any, fc.constantFrom('+', '-', '*', '/', '%', '<', '<=', '>', '>=', '==', '!=', 'in', '&&', '||'), any)
        .map(([a, op, b]) => `(${a} ${op} ${b})`),
      fc.tuple(any, any, any).map(([a, b, c]) => `(${a} ? ${b} : ${c})`),
      fc.tuple(fc.constantFrom('!', '-'), any).map(([op, a]) => `${op}(${a})`),
      fc.tuple(fc.constantFrom('size', 'string', 'int', 'double', 'bool'), any).map(([f, a]) => `${f}(${a})`),
      fc
        .tuple(any, fc.constantFrom('.map(x, x)', '.all(x, x == 1)', '.exists(x, x.a == 1)', '.size()', '.a', '["b"]'))
        .map(([a, method]) => `(${a})${method}`),
      // What may make up for a failure, so that it is met often enough.
      fc.tuple(any, fc.constantFrom('|| true', '&& false')).map(([a, rest]) => `(${a} ${rest})`),
      fc
        .tuple(fc.constantFrom('true ||', 'false &&', 'true ? 1 :', 'inputs.a == 1 ?'), any)
        .map(([first, a]) => (first.endsWith('?') ? `(${first} ${a} : 1)` : `(${first} ${a})`)),
      path.map((p) => `has(${p.replace(/\[.*?\]/g, '')}.a)`),
      path.map((p) => `${p}.?a.orValue(1)`),
      fc.tuple(any, any).map(([a, b]) => `[${a}, ${b}]`),
      any.map((a) => `{"k": ${a}}`),
    ),
  }
}).any

const PLACES = ['if', 'forEach', 'with'] as const

test('an expression that is refused for its types fails whatever the inputs and outputs', () => {
  let refused = 0
  fc.assert(
    fc.property(objectOf(typed), typed, source, fc.constantFrom(...PLACES), (inputs, output, text, place) => {
      fc.pre(compileExpression(text).ok)
      const step = { name: 't', function: 'm.f', [place]: place === 'if' ? text : `\${{ ${text} }}` }
      const plain = compileStepExpressions(step, []).problems
      fc.pre(plain.length === 0)
      const types = variableTypes(inputs.schema, [{ name: 's', outputSchema: output.schema }])
      const { problems } = compileStepExpressions(step, [], { types })
      if (problems.length === 0) return
      refused += 1
      for (const given of inputs.values) {
        const filled = valid(given, inputs.schema)
        if (filled === null) continue
        for (const gave of output.values) {
          if (valid({ v: gave }, { properties: { v: output.schema } }) === null) continue
          const scope: Scope = {
            inputs: filled,
            steps: { s: { output: gave, state: 'succeeded' } },
            run: { id: 'run_1', workflow: 'w', namespace: 'n' },
          }
          expect(() => evaluateAt(place, text, scope), JSON.stringify({ problems, filled, gave })).toThrow()
        }
      }
    }),
    { numRuns: 1_500 },
  )
  // Else nothing was tested.
  expect(refused).toBeGreaterThan(80)
})

function valid(given: Json, schema: JsonObject): JsonObject | null {
  try {
    return checkInputs({ name: 'w', inputs: schema }, given)
  } catch {
    return null
  }
}

function evaluateAt(place: (typeof PLACES)[number], text: string, scope: Scope): void {
  if (place === 'if') return void evaluateCondition(text, scope)
  const value = evaluateTemplate(`\${{ ${text} }}`, scope)
  if (place === 'forEach' && !Array.isArray(value)) throw new Error('no list')
}
