import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Metrics } from '../base/metrics.ts'
import { type MetricRow, METRICS } from './metric-names.ts'

export interface PrometheusOptions {
  version: string
  /** Whose metrics these are: those of a server, of a worker, or of a server with a worker beside it. */
  of: 'server' | 'worker' | 'all'
  /** Names of the routes, for their label. */
  routes: readonly string[]
}

export interface Prometheus {
  metrics: Metrics
  source: { contentType: string; metrics(): Promise<string> }
  /** Sets a counter that something else counts; it never goes back. */
  countTo(name: string, total: number): void
  /** Called before each scrape, to set what is only looked at then. One that fails spoils no other. */
  onScrape(collect: () => void | Promise<void>): void
}

type Labels = Record<string, string>
type Sets = ReadonlyMap<string, ReadonlySet<string>>

const OTHER = 'other'

/** Metrics in Prometheus' text format. A name or label that is not in the table is not counted: nothing unbounded gets in. */
export function createPrometheus(options: PrometheusOptions): Prometheus {
  const registry = new Registry()
  const counters = new Map<string, { metric: Counter; sets: Sets }>()
  const gauges = new Map<string, { metric: Gauge; sets: Sets }>()
  const histograms = new Map<string, { metric: Histogram; sets: Sets }>()
  const totals = new Map<string, number>()
  for (const [name, row] of Object.entries(METRICS) as [string, MetricRow][]) {
    if (row.of !== 'both' && options.of !== 'all' && row.of !== options.of) continue
    const sets = setsOf(row, options)
    const config = { name, help: row.help, labelNames: [...sets.keys()], registers: [registry] }
    if (row.type === 'counter') {
      const metric = new Counter(config)
      for (const labels of combinations(sets)) metric.inc(labels, 0)
      counters.set(name, { metric, sets })
    } else if (row.type === 'gauge') {
      const metric = new Gauge(config)
      for (const labels of combinations(sets)) metric.set(labels, 0)
      gauges.set(name, { metric, sets })
    } else {
      const metric = new Histogram({ ...config, buckets: [...(row.buckets ?? [])] })
      for (const labels of combinations(sets)) metric.zero(labels)
      histograms.set(name, { metric, sets })
    }
  }
  const collectors: (() => void | Promise<void>)[] = []
  const metrics: Metrics = {
    count(name, by = 1, labels = {}) {
      const at = counters.get(name)
      const bounded = at && bound(at.sets, labels)
      if (bounded && by > 0) at.metric.inc(bounded, by)
    },
    gauge(name, value, labels = {}) {
      const at = gauges.get(name)
      const bounded = at && bound(at.sets, labels)
      if (bounded) at.metric.set(bounded, value)
    },
    observe(name, seconds, labels = {}) {
      const at = histograms.get(name)
      const bounded = at && bound(at.sets, labels)
      if (bounded) at.metric.observe(bounded, seconds)
    },
  }
  metrics.gauge('orrery_build_info', 1, { version: options.version })
  return {
    metrics,
    source: {
      contentType: registry.contentType,
      async metrics() {
        await Promise.allSettled(collectors.map(async (collect) => collect()))
        return registry.metrics()
      },
    },
    countTo(name, total) {
      metrics.count(name, total - (totals.get(name) ?? 0))
      totals.set(name, Math.max(total, totals.get(name) ?? 0))
    },
    onScrape: (collect) => void collectors.push(collect),
  }
}

function setsOf(row: MetricRow, { routes, version }: PrometheusOptions): Sets {
  const valuesOf = (values: readonly string[] | 'routes' | 'version') =>
    values === 'routes' ? [...routes, OTHER] : values === 'version' ? [version] : values
  return new Map(Object.entries(row.labels ?? {}).map(([label, values]) => [label, new Set(valuesOf(values))]))
}

function combinations(sets: Sets): Labels[] {
  let all: Labels[] = [{}]
  for (const [label, values] of sets)
    all = all.flatMap((labels) => [...values].map((value) => ({ ...labels, [label]: value })))
  return all
}

/** The labels, when each of them is in its set; one that is not becomes `other` where there is such a value. */
function bound(sets: Sets, labels: Labels): Labels | null {
  let bounded = labels
  for (const [label, values] of sets) {
    const value = labels[label]
    if (value !== undefined && values.has(value)) continue
    if (!values.has(OTHER)) return null
    bounded = { ...bounded, [label]: OTHER }
  }
  return bounded
}
