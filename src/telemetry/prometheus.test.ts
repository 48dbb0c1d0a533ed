import { execFileSync, spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { type MetricRow, METRICS } from './metric-names.ts'
import { parseExposition } from './exposition.ts'
import { createPrometheus } from './prometheus.ts'

const make = (of: 'server' | 'worker' | 'all' = 'all') =>
  createPrometheus({ version: '1.2.3', of, routes: ['createRun', 'getRun'] })
const read = async (prometheus: ReturnType<typeof make>) => parseExposition(await prometheus.source.metrics())
const rows = Object.entries(METRICS) as [string, MetricRow][]
const hasPromtool = spawnSync('promtool', ['--version']).status === 0

describe('metrics', () => {
  test('are all there from the start, each combination of labels at zero', async () => {
    const families = await read(make())
    expect([...families.keys()].sort()).toEqual(rows.map(([name]) => name).sort())
    for (const [name, row] of rows) {
      const family = families.get(name)
      expect(family, name).toMatchObject({ type: row.type, help: row.help })
      const sets = Object.values(row.labels ?? {}).map((set) =>
        set === 'routes' ? 3 : set === 'version' ? 1 : set.length,
      )
      const combinations = sets.reduce((all, n) => all * n, 1)
      const perOne = row.type === 'histogram' ? (row.buckets ?? []).length + 3 : 1
      expect(family?.samples, name).toHaveLength(combinations * perOne)
      if (name !== 'orrery_build_info')
        expect(
          family?.samples.every((s) => s.value === 0),
          name,
        ).toBe(true)
    }
    expect(families.get('orrery_build_info')?.samples).toMatchObject([{ value: 1, labels: { version: '1.2.3' } }])
  })

  test('of a worker are not those of a server', async () => {
    const [server, worker] = await Promise.all([read(make('server')), read(make('worker'))])
    expect(server.has('orrery_worker_slots')).toBe(false)
    expect(worker.has('orrery_runs_created_total')).toBe(false)
    expect(server.has('orrery_build_info') && worker.has('orrery_build_info')).toBe(true)
  })

  test('have bounded labels: what is not in a set is other, or not counted', async () => {
    const prometheus = make()
    const { metrics } = prometheus
    const before = (await prometheus.source.metrics()).split('\n').length
    for (let i = 0; i < 100; i++) {
      metrics.count('orrery_http_requests_total', 1, { route: `x${i}`, status: '4xx' })
      metrics.count('orrery_runs_ended_total', 1, { state: `x${i}` })
      metrics.count(`orrery_unknown_${i}_total`)
    }
    const families = await read(prometheus)
    expect((await prometheus.source.metrics()).split('\n')).toHaveLength(before)
    expect(
      families.get('orrery_http_requests_total')?.samples.find((s) => s.labels['route'] === 'other' && s.value > 0)
        ?.value,
    ).toBe(100)
    expect(families.get('orrery_runs_ended_total')?.samples.every((s) => s.value === 0)).toBe(true)
  })

  test('that something else counts never go back', async () => {
    const prometheus = make()
    for (const total of [3, 5, 2, 6]) prometheus.countTo('orrery_worker_outages_total', total)
    expect((await read(prometheus)).get('orrery_worker_outages_total')?.samples[0]?.value).toBe(6)
  })

  test('are given also when one of those who are asked for theirs fails', async () => {
    const prometheus = make()
    prometheus.onScrape(() => Promise.reject(new Error('broken on purpose')))
    prometheus.onScrape(() => prometheus.metrics.gauge('orrery_sessions', 7))
    expect((await read(prometheus)).get('orrery_sessions')?.samples[0]?.value).toBe(7)
  })

  // Installed with Debian's package prometheus; without it the parser above stands in for it.
  test.skipIf(!hasPromtool)('pass promtool check metrics', async () => {
    const text = await make().source.metrics()
    expect(execFileSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })).toBe('')
  })
})

describe('the text format', () => {
  test.for([
    ['a sample before its help', 'a 1\n'],
    ['a type without help', '# TYPE a counter\na 1\n'],
    ['a family twice', '# HELP a h\n# TYPE a gauge\na 1\n# HELP a h\n# TYPE a gauge\n'],
    ['a sample twice', '# HELP a h\n# TYPE a gauge\na{x="1"} 1\na{x="1"} 2\n'],
    ['a label without quotes', '# HELP a h\n# TYPE a gauge\na{x=1} 1\n'],
    ['a value that is no number', '# HELP a h\n# TYPE a gauge\na one\n'],
    ['a type that does not exist', '# HELP a h\n# TYPE a thing\na 1\n'],
    ['a line that does not end', '# HELP a h\n# TYPE a gauge\na 1'],
  ] as const)('is refused with %s', ([, text]) => {
    expect(() => parseExposition(text)).toThrow(/^line \d+/)
  })

  test('is read with escapes, infinities and buckets', () => {
    const text = '# HELP a h\n# TYPE a histogram\na_bucket{le="+Inf",x="q\\"\\n\\\\"} 1\na_sum 2.5\na_count 1\n'
    expect(parseExposition(text).get('a')?.samples[0]?.labels).toEqual({ le: '+Inf', x: 'q"\n\\' })
  })
})
