export { createLog, type LogSinkOptions } from './log-sink.ts'
export { type MetricRow, METRICS } from './metric-names.ts'
export { createPrometheus } from './prometheus.ts'
