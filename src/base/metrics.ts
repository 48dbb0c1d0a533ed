/** Counters and gauges by name; the names stand in telemetry/metric-names.ts. */
export interface Metrics {
  count(name: string, by?: number, labels?: Record<string, string>): void
  gauge(name: string, value: number, labels?: Record<string, string>): void
  observe(name: string, seconds: number, labels?: Record<string, string>): void
}

export const noMetrics: Metrics = { count: () => {}, gauge: () => {}, observe: () => {} }
