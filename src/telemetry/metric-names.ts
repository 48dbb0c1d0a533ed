/** Every metric of the product. Labels are bounded; every series exists at zero from the start. */
export interface MetricRow {
  type: 'counter' | 'gauge' | 'histogram'
  help: string
  /** Label names with their values; each combination is primed. */
  labels?: Record<string, readonly string[]>
}

export const METRICS = {
  orrery_runs_created_total: { type: 'counter', help: 'Runs created.' },
  orrery_runs_ended_total: {
    type: 'counter',
    help: 'Runs ended, by outcome.',
    labels: { state: ['succeeded', 'failed', 'canceled'] },
  },
  orrery_steps_ended_total: {
    type: 'counter',
    help: 'Steps that ended well on the hot path.',
    labels: { state: ['succeeded'] },
  },
  orrery_sessions_lost_total: { type: 'counter', help: 'Worker sessions that ended because their worker was gone.' },
  orrery_assignments_resent_total: { type: 'counter', help: 'Assignments sent again because a reply was lost.' },
  orrery_runs_rearmed_total: { type: 'counter', help: 'Stalled runs with runnable work that was armed again.' },
  orrery_settle_errors_total: {
    type: 'counter',
    help: 'Runs that could not be settled by a tick; tried again by the next.',
  },
} as const satisfies Record<string, MetricRow>
