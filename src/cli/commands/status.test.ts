import { describe, expect, test } from 'vitest'
import { CliHarness, settle } from '../testing/cli-harness.ts'
import { RUN_ID, runView } from '../testing/scripted-client.ts'

const queue = {
  namespace: 'default',
  backend: 'function',
  module: 'tools',
  labels: { gpu: 'yes' },
  queued: 3,
  oldestMs: 61_000,
  workers: 0,
}

describe('status', () => {
  test('says what runs, and is content when nothing waits', async () => {
    const cli = new CliHarness()
    cli.client.status = {
      ...cli.client.status,
      runs: { pending: 1, running: 2, waiting: 3 },
      workers: { live: 2, draining: 1, lost: 1, capacity: 32, held: 5 },
    }
    expect(await cli.run('status')).toBe(0)
    expect(cli.out).toBe(
      [
        'server   http://127.0.0.1:7780  1.2.3  store postgres',
        'runs     6 live  2 running  3 waiting  1 pending',
        'workers  2 live  5 of 32 slots taken  1 draining  1 lost',
        'queues   nothing waits for a worker',
        '',
      ].join('\n'),
    )
  })

  test('steps that nobody serves are named with the worker that would, and are no success', async () => {
    const cli = new CliHarness()
    cli.client.status = { ...cli.client.status, queues: [queue] }
    expect(await cli.run('status')).toBe(1)
    expect(cli.out).toMatch(/default {2}function tools {2}gpu=yes +3 +1m ?1s +0/)
    expect(cli.out).toContain('orrery worker --server http://127.0.0.1:7780 --module tools=PATH --label gpu=yes')
  })

  test('--json is the answer of the server', async () => {
    const cli = new CliHarness()
    expect(await cli.run('status', '--json')).toBe(0)
    expect(cli.jsonLines).toEqual([cli.client.status])
  })
})

describe('top', () => {
  test('draws again after each interval, and leaves the terminal as it was', async () => {
    const cli = new CliHarness()
    cli.tty = true
    cli.columns = 200
    cli.client.list = [runView({ state: 'running' })]
    const done = cli.run('top', '--interval', '5')
    await settle(() => cli.out.includes(RUN_ID))
    cli.client.list = []
    cli.clock.advance(5_000)
    await settle(() => cli.out.includes('no live runs'))
    cli.signal()
    expect(await done).toBe(0)
    expect(cli.out.endsWith('\x1b[?25h')).toBe(true)
    expect(cli.listeners).toBe(0)
  })

  test('where nobody looks it prints once', async () => {
    const cli = new CliHarness()
    expect(await cli.run('top')).toBe(0)
    expect(cli.out).toContain('no live runs')
  })

  test('an interval that is none is refused', async () => {
    const cli = new CliHarness()
    expect(await cli.run('top', '--interval', '0')).toBe(2)
  })
})
