/** Every metric of the product. Labels are bounded: a value that is not in its set is counted as `other`, or not at all. */
export interface MetricRow {
  type: 'counter' | 'gauge' | 'histogram'
  /** Which process has it: a server, a worker, or both. A server with a worker beside it has all. */
  of: 'server' | 'worker' | 'both'
  help: string
  /** Label names with all of their values; each combination is there from the start, at zero. */
  labels?: Record<string, readonly string[] | 'routes' | 'version'>
  /** Upper bounds of a histogram's buckets, in seconds. */
  buckets?: readonly number[]
}

const STEP_ENDS = ['succeeded', 'failed', 'skipped', 'blocked', 'canceled'] as const
const ATTEMPT_ENDS = ['succeeded', 'failed', 'lost', 'returned', 'canceled', 'parked'] as const
const FLUSHES = ['create', 'complete', 'start', 'log', 'journal'] as const
const STEP_WAITS = ['queued', 'running', 'waiting'] as const
const MEMORY_VERBS = ['read', 'write', 'search', 'list', 'ingest', 'delete'] as const
const QUICK = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const LONG = [0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600, 14_400]

export const METRICS = {
  orrery_build_info: {
    type: 'gauge',
    of: 'both',
    help: 'Always 1; the label says which build this is.',
    labels: { version: 'version' },
  },
  orrery_http_requests_total: {
    type: 'counter',
    of: 'server',
    help: 'Requests answered, by route and class of status; route other is an address that does not exist.',
    labels: { route: 'routes', status: ['2xx', '3xx', '4xx', '5xx'] },
  },
  orrery_http_request_seconds: {
    type: 'histogram',
    of: 'server',
    help: 'Time from the head of a request to its answer; a poll is parked on purpose.',
    labels: { route: 'routes' },
    buckets: QUICK,
  },
  orrery_runs_created_total: { type: 'counter', of: 'server', help: 'Runs created by this server.' },
  orrery_runs_ended_total: {
    type: 'counter',
    of: 'server',
    help: 'Runs whose end this server recorded, by outcome.',
    labels: { state: ['succeeded', 'failed', 'canceled'] },
  },
  orrery_steps_ended_total: {
    type: 'counter',
    of: 'server',
    help: 'Steps whose end this server recorded, by state.',
    labels: { state: STEP_ENDS },
  },
  orrery_attempts_started_total: {
    type: 'counter',
    of: 'server',
    help: 'Attempts leased to workers by this server.',
  },
  orrery_attempts_ended_total: {
    type: 'counter',
    of: 'server',
    help: 'Attempts whose end this server recorded, by outcome; lost: the lease of the worker ended.',
    labels: { outcome: ATTEMPT_ENDS },
  },
  orrery_steps: {
    type: 'gauge',
    of: 'server',
    help: 'Steps in the whole store by state, counted up to a limit when asked, at most every 5 s.',
    labels: { state: STEP_WAITS },
  },
  orrery_steps_oldest_seconds: {
    type: 'gauge',
    of: 'server',
    help: 'How long the oldest of the counted steps has been in its state; for queued ones the oldest wait.',
    labels: { state: STEP_WAITS },
  },
  orrery_claims_total: {
    type: 'counter',
    of: 'server',
    help: 'Looks into the queues for a worker, by whether there was something.',
    labels: { result: ['found', 'empty'] },
  },
  orrery_tokens_total: {
    type: 'counter',
    of: 'server',
    help: 'Tokens of the calls of models that this server recorded; what came from a cache is part of the input as well.',
    labels: { direction: ['input', 'output', 'cached_input'] },
  },
  orrery_cost_total: {
    type: 'counter',
    of: 'server',
    help: 'Money that those calls cost by their price tables; other currencies than these are counted as other.',
    labels: { currency: ['USD', 'EUR', 'GBP', 'CHF', 'CNY', 'JPY', 'INR', 'other'] },
  },
  orrery_calls_unpriced_total: {
    type: 'counter',
    of: 'server',
    help: 'Calls of models whose price is not known.',
  },
  orrery_budget_refusals_total: {
    type: 'counter',
    of: 'server',
    help: 'Calls of models that did not fit into a budget, by what becomes of their steps.',
    labels: { action: ['wait', 'fail'] },
  },
  orrery_budgets: {
    type: 'gauge',
    of: 'server',
    help: 'Budgets by how much of their window is used, looked at once a minute; near: a share was reached that is told of. Those for each run are left out.',
    labels: { state: ['within', 'near', 'used_up'] },
  },
  orrery_budget_used_ratio: {
    type: 'gauge',
    of: 'server',
    help: 'What is used of the budget that is used most, from 0.',
  },
  orrery_budget_alerts_total: {
    type: 'counter',
    of: 'server',
    help: 'Shares of budgets that were reached and told of, each once in its window.',
  },
  orrery_sessions: { type: 'gauge', of: 'server', help: 'Workers that speak to this server.' },
  orrery_slots: {
    type: 'gauge',
    of: 'server',
    help: 'Slots of those workers, by state.',
    labels: { state: ['free', 'busy'] },
  },
  orrery_sessions_lost_total: {
    type: 'counter',
    of: 'server',
    help: 'Worker sessions that ended because their worker was gone.',
  },
  orrery_assignments_resent_total: {
    type: 'counter',
    of: 'server',
    help: 'Assignments sent again because a reply was lost.',
  },
  orrery_leases_recovered_total: {
    type: 'counter',
    of: 'server',
    help: 'Leases found in the store that nobody had sent to their worker.',
  },
  orrery_runs_rearmed_total: {
    type: 'counter',
    of: 'server',
    help: 'Stalled runs with runnable work that was armed again.',
  },
  orrery_settle_errors_total: {
    type: 'counter',
    of: 'server',
    help: 'Runs that could not be settled by a tick; tried again by the next.',
  },
  orrery_memory_calls_total: {
    type: 'counter',
    of: 'server',
    help: 'What agents and people did with memories, by whether it worked.',
    labels: { operation: MEMORY_VERBS, result: ['ok', 'failed'] },
  },
  orrery_memory_call_seconds: {
    type: 'histogram',
    of: 'server',
    help: 'Time that it took, vectors included.',
    labels: { operation: MEMORY_VERBS },
    buckets: QUICK,
  },
  orrery_memory_fallbacks_total: {
    type: 'counter',
    of: 'server',
    help: 'Searches by words because the model of embeddings did not answer.',
  },
  orrery_memory_pruned_total: {
    type: 'counter',
    of: 'server',
    help: 'Entries of memories removed because their time was over.',
  },
  orrery_ticks_total: {
    type: 'counter',
    of: 'server',
    help: 'Rounds of what keeps time, by result.',
    labels: { result: ['ok', 'failed'] },
  },
  orrery_tick_seconds: { type: 'histogram', of: 'server', help: 'Time that such a round took.', buckets: QUICK },
  orrery_flush_seconds: {
    type: 'histogram',
    of: 'server',
    help: 'Time that one statement took which records for many at once, by what it records.',
    labels: { kind: FLUSHES },
    buckets: QUICK,
  },
  orrery_flushed_items_total: {
    type: 'counter',
    of: 'server',
    help: 'What those statements recorded.',
    labels: { kind: FLUSHES },
  },
  orrery_rule_verdicts_total: {
    type: 'counter',
    of: 'server',
    help: 'Verdicts of roles and policies on calls of tools and of models.',
    labels: { about: ['tool', 'model'], verdict: ['allow', 'approval', 'deny'] },
  },
  orrery_db_connections: {
    type: 'gauge',
    of: 'server',
    help: 'Connections of the database pool, and callers that wait for one; all zero on the embedded store.',
    labels: { state: ['idle', 'busy', 'waiting'] },
  },
  orrery_worker_connected: {
    type: 'gauge',
    of: 'worker',
    help: '1 while the worker has a session with a server.',
  },
  orrery_worker_slots: {
    type: 'gauge',
    of: 'worker',
    help: 'Slots of this worker, by state.',
    labels: { state: ['free', 'running'] },
  },
  orrery_worker_attempts: {
    type: 'gauge',
    of: 'worker',
    help: 'Attempts that this worker holds: running, waiting for a slot, or ended and not yet acknowledged.',
    labels: { state: ['running', 'queued', 'unacknowledged'] },
  },
  orrery_worker_attempt_seconds: {
    type: 'histogram',
    of: 'worker',
    help: 'Duration of attempts, by kind of work and outcome.',
    labels: {
      kind: ['function', 'command', 'agent', 'tool', 'route', 'other'],
      outcome: ['succeeded', 'failed', 'canceled', 'returned', 'parked'],
    },
    buckets: LONG,
  },
  orrery_worker_outages_total: {
    type: 'counter',
    of: 'worker',
    help: 'Times that the link to the server was lost.',
  },
  orrery_worker_outbox: {
    type: 'gauge',
    of: 'worker',
    help: 'Results that wait on disk for their acknowledgement.',
  },
  orrery_event_loop_lag_seconds: {
    type: 'gauge',
    of: 'both',
    help: 'Worst delay of the event loop since the last scrape.',
  },
  orrery_log_lines_total: {
    type: 'counter',
    of: 'both',
    help: 'Log lines written, by level.',
    labels: { level: ['debug', 'info', 'warn', 'error'] },
  },
  orrery_log_lines_dropped_total: {
    type: 'counter',
    of: 'both',
    help: 'Log lines that could not be written to their file.',
  },
  orrery_spans_total: {
    type: 'counter',
    of: 'both',
    help: 'Spans by what became of them; dropped: the exporter was away or too slow.',
    labels: { result: ['sent', 'dropped'] },
  },
  process_cpu_seconds_total: { type: 'counter', of: 'both', help: 'CPU time of the process, user and system.' },
  process_resident_memory_bytes: { type: 'gauge', of: 'both', help: 'Resident memory of the process.' },
  process_start_time_seconds: {
    type: 'gauge',
    of: 'both',
    help: 'When the process started, in seconds since the epoch.',
  },
} as const satisfies Record<string, MetricRow>

export type MetricName = keyof typeof METRICS
