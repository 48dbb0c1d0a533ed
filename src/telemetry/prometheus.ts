import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Metrics } from '../base/metrics.ts'
import { type MetricRow, METRICS } from './metric-names.ts'

/** Metrics in Prometheus' text format. A name that is not in METRICS is a bug. */
export function createPrometheus(): { metrics: Metrics; source: { contentType: string; metrics(): Promise<string> } } {
  const registry = new Registry()
  const counters = new Map<string, Counter>()
  const gauges = new Map<string, Gauge>()
  const histograms = new Map<string, Histogram>()
  for (const [name, row] of Object.entries(METRICS) as [string, MetricRow][]) {
    const labelNames = Object.keys(row.labels ?? {})
    const config = { name, help: row.help, labelNames, registers: [registry] }
    if (row.type === 'counter') {
      const counter = new Counter(config)
      counters.set(name, counter)
      for (const [label, values] of Object.entries(row.labels ?? {}))
        for (const value of values) counter.inc({ [label]: value }, 0)
    } else if (row.type === 'gauge') gauges.set(name, new Gauge(config))
    else histograms.set(name, new Histogram(config))
  }
  return {
    metrics: {
      count: (name, by = 1, labels = {}) => {
        if (by > 0) counters.get(name)?.inc(labels, by)
      },
      gauge: (name, value, labels = {}) => gauges.get(name)?.set(labels, value),
      observe: (name, seconds, labels = {}) => histograms.get(name)?.observe(labels, seconds),
    },
    source: { contentType: registry.contentType, metrics: () => registry.metrics() },
  }
}
