import type { LogFields, Scope, Span, TraceContext } from '../base/index.ts'
import { attemptSpanOf, parseTraceparent, traceOfRun } from '../base/index.ts'
import type { Attempt } from './attempt.ts'

/** What is worked on while an attempt runs; its trace is made when somebody asks. */
export class AttemptScope implements Scope {
  readonly #attempt: Attempt
  readonly foreignTrace = null

  constructor(attempt: Attempt) {
    this.#attempt = attempt
  }

  /** The run's span: given by the server, or made of the run's id. */
  get parent(): TraceContext {
    const { traceparent, runId } = this.#attempt.assignment
    return parseTraceparent(traceparent) ?? traceOfRun(runId)
  }

  get trace(): TraceContext {
    return { ...this.parent, spanId: attemptSpanOf(this.#attempt.key) }
  }

  get logFields(): LogFields {
    const { runId, name, fence } = this.#attempt.assignment
    const { traceId, spanId } = this.trace
    return { traceId, spanId, runId, step: name, fence }
  }
}

/** For lines about an attempt that are not said while it is worked on. */
export const fieldsOf = (attempt: Attempt): LogFields => new AttemptScope(attempt).logFields

/** The span of an attempt that has ended. */
export function spanOfAttempt(
  attempt: Attempt,
  end: { worker: string; startedAt: number; endedAt: number; outcome: string; failure: string | null },
): Span {
  const { runId, name, fence, workflow, namespace, tries, work } = attempt.assignment
  const agent =
    work.kind === 'agent' ? { 'gen_ai.operation.name': 'invoke_agent', 'gen_ai.agent.name': work.agent } : {}
  const scope = new AttemptScope(attempt)
  return {
    ...scope.trace,
    parentSpanId: scope.parent.spanId,
    name: `step ${name}`,
    kind: 'consumer',
    startedAt: end.startedAt,
    endedAt: end.endedAt,
    attributes: {
      'orrery.run_id': runId,
      'orrery.step': name,
      'orrery.fence': fence,
      'orrery.tries': tries,
      'orrery.workflow': workflow,
      'orrery.namespace': namespace,
      'orrery.work': work.kind,
      'orrery.worker': end.worker,
      'orrery.outcome': end.outcome,
      ...agent,
    },
    failure: end.failure,
  }
}
