import { describe, expect, test } from 'vitest'
import type { Change } from '../contract/api-types.ts'
import { applyEvent, progressOf, rewind } from './progress.ts'
import { paint } from './terminal-text.ts'
import { treeLines } from './tree.ts'
import { runView, stepView, T0, at } from './testing/scripted-client.ts'

function follow(names: string[], ...events: [number, ...Change[]][]) {
  const progress = progressOf(runView({ stepList: names.map((name) => stepView({ name })) }))
  rewind(progress)
  const told = events.flatMap(([ms, ...changes], i) => applyEvent(progress, { seq: i + 1, at: at(ms), changes }))
  return { progress, told }
}
const draw = (progress: Parameters<typeof treeLines>[0], nowMs: number, width = 80, height = 40) =>
  treeLines(progress, { nowMs: T0 + nowMs, width, height }).map((line) => paint(line, { colour: false }))

describe('the tree of a run', () => {
  test('shows states, durations and the counts of a forEach', () => {
    const { progress } = follow(
      ['fetch', 'measure', 'report'],
      [0, { of: 'run', to: 'running' }, { of: 'fetch', to: 'running' }],
      [120, { of: 'fetch', to: 'succeeded' }],
      [150, { of: 'measure[0]', to: 'queued' }, { of: 'measure[1]', to: 'queued' }, { of: 'measure[2]', to: 'queued' }],
      [200, { of: 'measure[0]', to: 'running' }, { of: 'measure[1]', to: 'running' }],
      [300, { of: 'measure[0]', to: 'succeeded' }, { of: 'measure[1]', to: 'failed', code: 'step.exit_nonzero' }],
      [310, { of: 'measure[2]', to: 'running' }],
    )
    expect(draw(progress, 1310)).toEqual([
      'demo  run_01k0000000000000000000dem0  running  1.3s',
      '├─ ✓ fetch    succeeded    120ms',
      '├─ ⠼ measure  running       1.1s  2/3, 1 running, 1 failed',
      '│  ├─ ✗ [1]   failed       100ms  step.exit_nonzero',
      '│  └─ ⠼ [2]   running       1.0s',
      '└─ · report   pending',
    ])
  })

  test('fits the width', () => {
    const { progress } = follow(['a-step-with-quite-a-long-name-that-goes-on'], [0, { of: 'run', to: 'running' }])
    for (const width of [1, 10, 30, 60]) {
      for (const line of draw(progress, 0, width)) expect(line.length).toBeLessThanOrEqual(width)
    }
    expect(draw(progress, 0, 30)).toEqual(['demo  run_01k0000000000000000…', '└─ · a-step-with-quite-a-long…'])
  })

  test('folds a long list to the height, keeping what failed or runs', () => {
    const names = Array.from({ length: 100 }, (_, i) => `s${i}`)
    const { progress } = follow(
      names,
      [0, { of: 's0', to: 'running' }, { of: 's1', to: 'running' }],
      [10, { of: 's0', to: 'succeeded' }, { of: 's1', to: 'failed', code: 'step.signaled' }],
      [20, { of: 's50', to: 'running' }],
    )
    expect(draw(progress, 20, 80, 6)).toEqual([
      'demo  run_01k0000000000000000000dem0  pending  20ms',
      '├─ ✗ s1   failed        10ms  step.signaled',
      '├─ ⠋ s50  running        0ms',
      '├─ · s98  pending',
      '└─ · s99  pending',
      '   … 96 more: 1 succeeded, 95 pending',
    ])
  })

  test('a step that goes back into the queue says why', () => {
    const { progress, told } = follow(
      ['a'],
      [0, { of: 'a', to: 'running', worker: 'w1' }],
      [50, { of: 'a', to: 'lost', code: 'worker.lost', note: 'w1' }],
    )
    expect(draw(progress, 60)[1]).toBe('└─ ○ a  queued              worker.lost: w1')
    expect(told.at(-1)).toMatchObject({ of: 'a', to: 'lost', detail: 'worker.lost: w1' })
  })

  test('what the server says of a step that waits or is blocked is shown', () => {
    const progress = progressOf(
      runView({
        state: 'waiting',
        stepList: [
          stepView({
            name: 'build',
            state: 'queued',
            reason: {
              code: 'dispatch.requirements_unmet',
              message: 'label gpu=yes',
              evidence: {},
              remediation: '',
              retryable: false,
              since: null,
            },
          }),
          stepView({
            name: 'ship',
            state: 'blocked',
            failure: {
              code: 'step.upstream_failed',
              message: 'm',
              evidence: { blockedBy: 'build' },
              remediation: '',
              retryable: false,
            },
          }),
        ],
      }),
    )
    expect(draw(progress, 0)).toEqual([
      'demo  run_01k0000000000000000000dem0  waiting  0ms',
      '├─ ○ build  queued              dispatch.requirements_unmet: label gpu=yes',
      '└─ ⊘ ship   blocked             step.upstream_failed (build)',
    ])
  })

  test('a wide forEach costs constant work for each change', () => {
    const changes = Array.from({ length: 50_000 }, (_, i) => ({ of: `m[${i}]`, to: 'succeeded' }))
    const { progress } = follow(['m'], [0, ...changes])
    expect(progress.steps.get('m')?.fan?.counts.succeeded).toBe(50_000)
    expect(draw(progress, 0)).toHaveLength(2)
  })
})
