import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Json } from '../base/json.ts'
import { compileExpression, pathsOf, type Scope } from './expression.ts'
import { Failure } from './failure.ts'
import { evaluateCondition, evaluateTemplate, parseTemplate } from './template.ts'

const scope: Scope = {
  inputs: { n: 5, half: 0.5, text: 'x', none: null, list: [1, 2], 'a-b': 3, map: { kept: 1 } },
  steps: { a: { output: { count: 1 }, state: 'succeeded' }, skipped: { state: 'skipped' } },
  item: 3,
  index: 2,
  run: { id: 'run_1', workflow: 'w', namespace: 'default' },
}

function failureOf(work: () => unknown): Failure {
  try {
    work()
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
  throw new Error('did not fail')
}

describe('evaluateTemplate', () => {
  test.each<[string, Json]>([
    ['plain', 'plain'],
    ['${{ inputs.n }}', 5],
    ['${{ inputs.map }}', { kept: 1 }],
    ['${{ inputs.none }}', null],
    ['n=${{ inputs.n }}, ${{ inputs.map }} ${{ inputs.none }} ${{ inputs.text }}', 'n=5, {"kept":1} null x'],
    ['${{ inputs.n + 1 }}', 6],
    ['${{ inputs.n / 2 }}', 2.5],
    ['${{ inputs.n % 2 == 1 }}', true],
    ['${{ 7 / 2 }}', 3],
    ['${{ inputs.list.map(x, x * 2) }}', [2, 4]],
    ['${{ item + index }}', 5],
    ['${{ [10, 20, 30][index] }}', 30],
    ['${{ {"a": {"b": 1}} }}', { a: { b: 1 } }],
    ["${{ '}}' }}", '}}'],
    ['${{ inputs["a-b"] }}', 3],
    ['${{ inputs.?gone.?deeper.orValue("d") }}', 'd'],
    ['${{ has(inputs.gone) }}', false],
    ['${{ run.id }}', 'run_1'],
    ['${{ steps.skipped.state }}', 'skipped'],
    ['${{ timestamp("2026-01-02T03:04:05Z") }}', '2026-01-02T03:04:05.000Z'],
    ['${{ 1u }}', 1],
  ])('%s gives %j', (template, value) => {
    expect(evaluateTemplate(template, scope)).toEqual(value)
  })

  test('goes through lists and maps and leaves keys alone', () => {
    const template = { '${{ inputs.n }}': ['${{ inputs.n }}', 1, null, { deep: '<${{ inputs.text }}>' }] }
    expect(evaluateTemplate(template, scope)).toEqual({ '${{ inputs.n }}': [5, 1, null, { deep: '<x>' }] })
  })

  test.each([
    ['${{ inputs.gone }}', 'inputs.gone', 'inputs has n, half, text, none, list, a-b, map'],
    ['x${{ inputs.map.keep }}', 'inputs.map.keep', 'inputs.map has kept'],
    ['${{ steps.skipped.output }}', 'steps.skipped.output', 'steps.skipped has state'],
    ['${{ inputs.list[7] }}', 'inputs.list[7]', 'inputs.list is a list of 2'],
    ['${{ inputs.none.x }}', 'inputs.none.x', 'inputs.none is null'],
    ['${{ inputs.text.x }}', 'inputs.text.x', 'inputs.text is a string'],
    ['${{ steps.unknown.output }}', 'steps.unknown', 'steps has a, skipped'],
  ])('%s fails with the path and what is there', (template, path, there) => {
    const failure = failureOf(() => evaluateTemplate(template, scope))
    expect(failure).toMatchObject({ code: 'expression.unresolved', evidence: { path } })
    expect(failure.message).toContain(`${path} has no value; ${there}`)
  })

  test('item without a forEach has no value', () => {
    const { item: _, index: __, ...outside } = scope
    expect(failureOf(() => evaluateTemplate('${{ item }}', outside))).toMatchObject({
      code: 'expression.unresolved',
      evidence: { path: 'item' },
    })
  })

  test.each([
    '${{ 9007199254740993 }}',
    '${{ 1.0 / 0.0 }}',
    '${{ b"a" }}',
    '${{ inputs.?gone }}',
    '${{ type(1) }}',
    '${{ 1 / 0 }}',
    '${{ inputs.text + inputs.n }}',
  ])('%s has no JSON value and says so', (template) => {
    expect(failureOf(() => evaluateTemplate(template, scope)).code).toBe('expression.unresolved')
  })

  test('the prototype is out of reach', () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])
      expect(failureOf(() => evaluateTemplate(`\${{ inputs["${name}"] }}`, scope)).code).toBe('expression.unresolved')
    expect(failureOf(() => evaluateTemplate('${{ {"__proto__": 1} }}', scope)).code).toBe('expression.invalid')
  })

  test('an expression made to explode is stopped', () => {
    const large: Scope = { ...scope, inputs: { list: Array<Json>(50_000).fill(1), text: `${'a'.repeat(40)}b` } }
    for (const template of [
      '${{ inputs.list.map(a, inputs.list.map(b, b)).size() }}',
      '${{ inputs.text.matches("^(a+)+$") }}',
      `\${{ ["aaaaaaaa"]${'.map(a, a + a)'.repeat(40)} }}`,
      `\${{ [{"a": 1}]${'.map(a, {"a": a, "b": a})'.repeat(30)} }}`,
    ])
      expect(failureOf(() => evaluateTemplate(template, large)).code).toBe('expression.unresolved')
    expect(evaluateTemplate('${{ inputs.list.size() }}', large)).toBe(50_000)
  })
})

describe('evaluateCondition', () => {
  test('takes the source with and without ${{ }}', () => {
    expect(evaluateCondition('steps.a.output.count > 0', scope)).toBe(true)
    expect(evaluateCondition('${{ steps.a.output.count > 1 }}', scope)).toBe(false)
  })

  test('nothing but true and false is taken for an answer', () => {
    for (const source of ['inputs.n', 'inputs.text', 'inputs.none', 'inputs.list', 'inputs.map'])
      expect(failureOf(() => evaluateCondition(source, scope)).message).toContain('not true or false')
  })
})

describe('compileExpression', () => {
  test('lists what is read, loop variables left out', () => {
    expect(pathsOf('steps.a.output.x[0] + inputs.list.map(t, t.y + item)[1]')).toEqual([
      { root: 'steps', path: ['steps', 'a', 'output', 'x', 0] },
      { root: 'inputs', path: ['inputs', 'list'] },
      { root: 'item', path: ['item'] },
    ])
    expect(pathsOf('has(steps.mine.output)')).toEqual([{ root: 'steps', path: ['steps', 'mine'] }])
    expect(pathsOf('1 +')).toBeNull()
  })

  test.each([
    ['input.a', 'inputs'],
    ['steps.a.outptu', 'output'],
    ['run.idd', 'id'],
  ])('%s is refused with what was meant', (source, near) => {
    expect(compileExpression(source)).toMatchObject({ ok: false, nearest: near })
  })

  test.each([
    '',
    ' ',
    '1 +',
    'steps',
    'steps[inputs.n].output',
    'steps.map(x, x)',
    'inputs.l.map(a, a + b)',
    'nope(1)',
    '1 + "a"',
    '('.repeat(300),
    'a'.repeat(5_000),
  ])('%j is refused', (source) => {
    expect(compileExpression(source)).toMatchObject({ ok: false, message: expect.any(String) })
  })

  test('a hyphen in the name of a step is explained', () => {
    expect(compileExpression('has(steps["my-step"].output)')).toMatchObject({
      message: expect.stringContaining('hasValue()'),
    })
    expect(evaluateTemplate('${{ steps["a"].?output.hasValue() }}', scope)).toBe(true)
    expect(compileExpression('steps.my-step.output')).toMatchObject({ message: expect.stringContaining('["my-step"]') })
  })

  test('any text compiles or is refused, and evaluates to JSON or fails by name', () => {
    const words = fc.constantFrom(
      'inputs',
      '.n',
      '.list',
      '[0]',
      ' + ',
      ' == ',
      '(',
      ')',
      '"a"',
      '1',
      'steps',
      '.a',
      '.output',
      '.map(x, x)',
      '? 1 : 2',
      '!',
      '{',
      '}',
      '${{',
      '}}',
      "'",
      'has(',
      '.?',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(words, { maxLength: 12 }).map((all) => all.join('')),
    )
    fc.assert(
      fc.property(text, (source) => {
        const compiled = compileExpression(source)
        try {
          const value = evaluateTemplate(`\${{ ${source} }}`, scope)
          expect(JSON.parse(JSON.stringify(value))).toEqual(value)
        } catch (error) {
          expect(error).toBeInstanceOf(Failure)
          if (!compiled.ok && error instanceof Failure)
            expect(['expression.invalid', 'expression.unresolved']).toContain(error.code)
        }
      }),
      { numRuns: 1_000 },
    )
  })
})

test('a template is cut into parts that make the text again', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', ' ', '${{', '}}', '{', '}', '"', "'", '\\', '$'), { maxLength: 20 }),
      (bits) => {
        const text = bits.join('')
        const { parts, unclosedAt } = parseTemplate(text)
        if (unclosedAt !== null) return
        const again = parts.map((p) => (p.kind === 'text' ? p.text : `\${{${p.source}}}`)).join('')
        expect(again.replaceAll(' ', '')).toBe(text.replaceAll(' ', ''))
      },
    ),
  )
})
