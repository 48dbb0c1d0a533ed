import { describe, expect, test } from 'vitest'
import { Bug } from '../base/assert.ts'
import { Failure } from '../domain/failure.ts'
import { createLog, type LogSinkOptions } from './log-sink.ts'

/** What a log of this kind writes, without the time of each line. */
function written(options: Partial<LogSinkOptions>, speak: (log: ReturnType<typeof createLog>) => void): string[] {
  let text = ''
  speak(createLog({ level: 'info', format: 'text', component: 'server', write: (t) => void (text += t), ...options }))
  return text
    .trimEnd()
    .replaceAll(/^\d\d:\d\d:\d\d\.\d{3} /gm, '')
    .split('\n')
}

const unreachable = new Failure('storage.unreachable', 'renewing leases', { cause: new Error('connection refused') })
const bug = new Bug('step may not go from skipped to queued')

describe('lines for people', () => {
  test('have fields behind the message, quoted where they need it', () => {
    const lines = written({}, (log) => log.info('lease lost', { workerId: 'w1', why: 'a "gap"', none: '', at: [1] }))
    expect(lines).toEqual(['info  lease lost worker_id=w1 why="a \\"gap\\"" none="" at=[1]'])
  })

  test.for(['err', 'error'])('of an error under %s have its message and its causes, in one line', (key) => {
    const lines = written({}, (log) => log.warn('tick failed', { [key]: unreachable, tries: 2 }))
    expect(lines).toEqual([`warn  tick failed ${key}="renewing leases: connection refused" tries=2`])
  })

  test('of a failure have no stack, however grave', () => {
    expect(written({}, (log) => log.error('worker ended', { err: unreachable }))).toHaveLength(1)
  })

  test('of a bug are followed by its stack', () => {
    const [line, name, at] = written({}, (log) => log.error('request met a bug', { path: '/v1/runs', err: bug }))
    expect(line).toBe('error request met a bug path=/v1/runs err="step may not go from skipped to queued"')
    expect(name).toBe('    Bug: step may not go from skipped to queued')
    expect(at).toMatch(/^        at .*log-sink\.test\.ts/)
  })

  test('at debug level are followed by the stack of any error, with those of its causes', () => {
    const text = written({ level: 'debug' }, (log) => log.warn('tick failed', { err: unreachable })).join('\n')
    expect(text).toMatch(/\n {4}Failure: renewing leases\n {8}at /)
    expect(text).toMatch(/\n {4}caused by: Error: connection refused\n {8}at /)
  })
})

test('lines for machines have the whole error, in one line', () => {
  const [line = '', ...more] = written({ format: 'json' }, (log) => log.error('request met a bug', { err: bug }))
  expect(more).toEqual([])
  expect(JSON.parse(line)).toMatchObject({ err: { type: 'Bug', message: bug.message, stack: bug.stack } })
})

test('what is secret is in no line', () => {
  for (const format of ['text', 'json'] as const)
    expect(written({ format }, (log) => log.info('m', { token: 'orr_x', of: { password: 'pw' } })).join()).not.toMatch(
      /orr_x|pw/,
    )
})
