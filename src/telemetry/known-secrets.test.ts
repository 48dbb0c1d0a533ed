import { expect, test } from 'vitest'
import { KnownSecrets } from './known-secrets.ts'
import { createLog } from './log-sink.ts'

test('what a process has had in its hands is in no line of its log', () => {
  const known = new KnownSecrets({ max: 10 })
  const lines: string[] = []
  const write = (line: string) => void lines.push(known.redact(line))
  const log = createLog({ level: 'info', format: 'json', component: 'server', write })
  log.info('before hunter2"x')
  known.add('hunter2"x')
  log.info('refused for hunter2"x', { err: new Error(encodeURIComponent('hunter2"x')) })
  expect(lines[0]).toContain('hunter2')
  expect(lines[1]).toContain('refused for [secret]')
  expect(lines[1]).not.toContain('hunter2')
})

test('the oldest are forgotten beyond the limit', () => {
  const known = new KnownSecrets({ max: 2 })
  for (const value of ['first-value', 'second-value', 'third-value']) known.add(value)
  expect(known.redact('first-value second-value third-value')).toBe('first-value [secret] [secret]')
})
