import { describe, expect, test } from 'vitest'
import { failureRecord } from '../domain/failure.ts'
import { failureLines } from './failure-text.ts'
import { paint } from './terminal-text.ts'

const draw = (...args: Parameters<typeof failureLines>) =>
  failureLines(...args).map((line) => paint(line, { colour: false }))

describe('a failure as text', () => {
  test('shows code, message, causes, evidence, advice and the next commands', () => {
    const failure = failureRecord('step.exit_nonzero', 'running step build', {
      cause: new Error('make: *** [all] Error 2'),
      evidence: { exitCode: 2, command: ['make', 'all'], tail: 'cc -c a.c\na.c:1: error\n' },
    })
    expect(draw(failure, { width: 80, next: ['orrery explain step.exit_nonzero'] })).toEqual([
      '✗ step.exit_nonzero  The command ended with a non-zero exit code',
      '  running step build',
      '  caused by make: *** [all] Error 2',
      '  exitCode  2',
      '  command   make, all',
      '  tail',
      '    │ cc -c a.c',
      '    │ a.c:1: error',
      '  → Read the last lines of output shown with the failure.',
      '    orrery explain step.exit_nonzero',
    ])
  })

  test('shows a list that is too long for one line item by item', () => {
    const tried = ['store default/github/token: no such secret', 'variable ORRERY_SECRET_GITHUB_TOKEN: not set']
    const lines = draw(failureRecord('secret.not_found', 'resolving', { evidence: { key: 'a', tried } }), { width: 80 })
    expect(lines.slice(2, 6)).toEqual(['  key  a', '  tried', `    - ${tried[0]}`, `    - ${tried[1]}`])
  })

  test('shows maps of a list that is too long whole, and a problem that is a text as it is', () => {
    const evidence = {
      budgets: [{ budget: 'default/small', window: 'day', spent: 520, limit: 10, until: '2026-11-30T00:00:00.000Z' }],
      problems: ['input.text is required'],
    }
    const text = draw(failureRecord('budget.exceeded', 'asking', { evidence }), { width: 70 })
    expect(text).toContain('  input.text is required')
    const map = '    - budget default/small, window day, spent 520, limit 10, until'
    expect(text).toEqual(expect.arrayContaining(['  budgets', map, '      2026-11-30T00:00:00.000Z']))
  })

  test('points at the place of each problem', () => {
    const failure = failureRecord('manifest.invalid', 'reading flow.yaml: 1 problem', {
      evidence: {
        problems: [
          {
            code: 'manifest.invalid',
            message: 'unknown key "need"',
            path: 'spec.steps[0].need',
            file: 'flow.yaml',
            line: 2,
            column: 5,
            nearest: 'needs',
          },
        ],
      },
    })
    expect(draw(failure, { width: 70, sources: { 'flow.yaml': 'steps:\n  - need: [a]\n' } })).toEqual([
      '✗ manifest.invalid  The manifest is not valid',
      '  reading flow.yaml: 1 problem',
      '  flow.yaml:2:5  spec.steps[0].need',
      '    unknown key "need" (did you mean "needs"?)',
      '    2 |   - need: [a]',
      '      |     ^',
      '  → Correct the places listed with the failure; all problems are',
      '    listed at once. Nothing was stored.',
    ])
  })

  test('keeps the caret in view on a long line', () => {
    const text = `${'x'.repeat(500)}HERE`
    const lines = draw(
      failureRecord('manifest.invalid', 'm', {
        evidence: { problems: [{ message: 'bad', path: '', file: 'f', line: 1, column: 501 }] },
      }),
      { width: 60, sources: { f: text } },
    )
    const source = lines.find((line) => line.includes('HERE')) ?? ''
    const caret = lines.find((line) => line.endsWith('^')) ?? ''
    expect(caret.indexOf('^')).toBe(source.indexOf('HERE'))
  })

  test('cuts a long tail to its last lines and takes escape sequences out', () => {
    const tail = Array.from({ length: 30 }, (_, i) => `\x1b[31mline ${i}\x1b[0m`).join('\n')
    const lines = draw(failureRecord('step.signaled', 'm', { evidence: { tail } }), { width: 80 })
    expect(lines[2]).toBe('  tail (last 20 of 30 lines)')
    expect(lines[3]).toBe('    │ line 10')
    expect(lines.join('')).not.toContain('\x1b')
  })
})
