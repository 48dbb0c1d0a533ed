import { describe, expect, test } from 'vitest'
import { exportsTooLarge, isReservedVariable, parseExports } from './exported-env.ts'
import { importsOf } from './import-env.ts'
import { LIMITS } from './limits.ts'

const read = (text: string) => {
  const parsed = parseExports(text)
  return parsed.kind === 'read' ? parsed.env : `line ${parsed.line}: ${parsed.problem}`
}

describe('what commands write to $ORRERY_ENV', () => {
  test('is a variable a line, its value as it stands', () => {
    expect(read('A=1\n\nB= two words \nC="quoted"\nD=\nE=x=y\r\n')).toEqual({
      A: '1',
      B: ' two words ',
      C: '"quoted"',
      D: '',
      E: 'x=y',
    })
    expect(read('')).toEqual({})
    expect(read('A=1\nA=2')).toEqual({ A: '2' })
  })

  test('has values of several lines between marks', () => {
    expect(read('A<<END\none\n\n two=2\nEND\nB=after\n')).toEqual({ A: 'one\n\n two=2', B: 'after' })
    expect(read('A<<END\nEND\n')).toEqual({ A: '' })
  })

  test('keeps every name a name', () => {
    expect(Object.entries(read('__proto__=x\n'))).toEqual([['__proto__', 'x']])
  })

  test.each([
    ['A=1\nexport B=2', 'line 2: what stands before the sign is no name of a variable'],
    ['nothing', 'line 1: it is neither NAME=VALUE nor NAME<<END'],
    ['=x', 'line 1: what stands before the sign is no name of a variable'],
    ['A<<\nx', 'line 1: no end mark stands behind <<'],
    ['A=1\nB<<END\nx\n', 'line 2: the line with the end mark is missing'],
    ['A=a\0b', 'line 1: the value has a zero byte'],
  ])('%j is refused, and what it says is not repeated', (text, problem) => {
    expect(read(text)).toBe(problem)
  })

  test.each(['PATH', 'HOME', 'TRACEPARENT', 'LD_PRELOAD', 'ORRERY_ENV', 'ORRERY_'])('may not say %s', (name) => {
    expect(isReservedVariable(name)).toBe(true)
    expect(isReservedVariable(`MY_${name}`)).toBe(false)
  })

  test('is bounded in size and in number', () => {
    expect(exportsTooLarge({ A: 'x'.repeat(LIMITS.exportBytes - 3) })).toBeNull()
    expect(exportsTooLarge({ A: 'x'.repeat(LIMITS.exportBytes) })).toMatchObject({ what: 'bytes' })
    const many = Object.fromEntries(Array.from({ length: LIMITS.exportsMax + 1 }, (_, i) => [`A${i}`, '']))
    expect(exportsTooLarge(many)).toEqual({ what: 'variables', is: LIMITS.exportsMax + 1, limit: LIMITS.exportsMax })
  })
})

describe('whose variables a step is given', () => {
  test('those of all steps before it, in an order in which needs come first', () => {
    // 3 ← 1 ← 0 and 3 ← 2; 4 needs nothing.
    const needs = [[], [0], [], [1, 2], []]
    expect(importsOf(needs, () => true)).toEqual([[], [0], [], [0, 2, 1], []])
    expect(importsOf(needs, (i) => i === 0)).toEqual([[], [0], [], [0], []])
  })

  test('is bounded', () => {
    const many = LIMITS.importStepsMax + 1
    const needs = [...Array.from({ length: many }, () => []), Array.from({ length: many }, (_, i) => i), [many]]
    expect(importsOf(needs, () => true).slice(many)).toEqual([null, null])
    expect(importsOf(needs, (i) => i > 0).slice(many)).toEqual([expect.any(Array), null])
  })
})
