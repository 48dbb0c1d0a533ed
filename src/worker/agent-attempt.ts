import { entryOf, runTurns, tracedHost, type TurnsEnd, type TurnsStep } from '../agents/index.ts'
import { type Clock, type Deadlines, noTracer, type Tracer } from '../base/index.ts'
import type { ExchangeLane } from '../contract/exchange.ts'
import { Failure, failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { AgentLog } from './agent-log.ts'
import type { AgentRuntime } from './agent-runtime.ts'
import type { Attempt, Outcome, PendingReport, Work } from './attempt.ts'
import type { AttemptAsker } from './attempt-asker.ts'
import { AttemptScope } from './attempt-scope.ts'
import { AttemptHost } from './attempt-host.ts'
import { Stale } from './attempt-journal.ts'
import type { MakeReport } from './log-shipping.ts'
import { checkOutput, describe, failed, outputOutcome } from './outcome.ts'

export interface AgentDeps {
  /** Null: this worker runs no agents. */
  runtime: AgentRuntime | null
  lane: ExchangeLane
  asker: AttemptAsker
  clock: Clock
  deadlines: Deadlines
  /** Takes spans of calls; nobody does when absent. */
  tracer?: Tracer | undefined
  makeReport: MakeReport
  /** True: attempts give their steps back at the next boundary. */
  isLeaving(): boolean
  remember(value: string): void
  /** Called once, unless what it runs never ends. */
  onEnd(attempt: Attempt, outcome: Outcome): void
}

/** Starts an attempt at a step of agents: the turns of an agent, one call of a tool, or a choice of a way. */
export function startAgent(attempt: Attempt, deps: AgentDeps): Work {
  const running = new RunningAgent(attempt, deps)
  void running.run()
  return running
}

class RunningAgent implements Work {
  readonly graceMs = LIMITS.killGraceMs
  readonly remembered = false
  readonly ended = Promise.resolve()
  readonly #attempt: Attempt
  readonly #deps: AgentDeps
  readonly #stop = new AbortController()
  readonly #log: AgentLog

  constructor(attempt: Attempt, deps: AgentDeps) {
    this.#attempt = attempt
    this.#deps = deps
    this.#log = new AgentLog(attempt, deps)
  }

  async run(): Promise<void> {
    const outcome = await this.#turns().catch((error: unknown) => this.#threw(error))
    this.#log.finish()
    this.#deps.onEnd(this.#attempt, outcome)
  }

  async #turns(): Promise<Outcome> {
    const { runtime, clock, deadlines, tracer = noTracer } = this.#deps
    const step = stepOf(this.#attempt)
    if (!runtime || step instanceof Failure)
      throw step instanceof Failure ? step : new Failure('internal.bug', `${describe(this.#attempt)}: no agents here`)
    const bound = step.kind === 'agent' ? step.bound : boundOf(this.#attempt)
    const host = new AttemptHost(this.#attempt, {
      ...this.#deps,
      runtime,
      bound,
      show: (event) => this.#log.show(event),
    })
    try {
      return this.#outcomeOf(
        await runTurns(step, tracedHost(host, { tracer, clock, parent: new AttemptScope(this.#attempt).trace }), {
          clock,
          deadlines,
          signal: this.#stop.signal,
        }),
      )
    } finally {
      await host.close()
    }
  }

  #outcomeOf(end: TurnsEnd): Outcome {
    if (end.kind !== 'succeeded') return end
    const outcome = outputOutcome(this.#attempt, end.output)
    return outcome.kind === 'succeeded' ? checkOutput(this.#attempt, outcome) : outcome
  }

  #threw(error: unknown): Outcome {
    // What is not ours any more, or was told to stop, has nothing to say.
    if (error instanceof Stale || this.#stop.signal.aborted) return { kind: 'canceled' }
    if (error instanceof Failure) return failed(error.toRecord())
    return failed(failureRecord('internal.bug', `running ${describe(this.#attempt)}`, { cause: error }))
  }

  abort(): void {
    this.#stop.abort(new Error('the attempt was told to stop'))
  }

  refresh(): void {
    this.#log.refresh()
  }

  logAcked(report: PendingReport): void {
    this.#log.acked(report)
  }

  release(): void {
    this.#log.close()
  }

  detach(): void {
    this.abort()
  }
}

const boundOf = ({ assignment: { work } }: Attempt) => ('bound' in work ? work.bound : null)

function stepOf(attempt: Attempt): TurnsStep | Failure {
  const { step, fence, work, timeoutMs } = attempt.assignment
  const common = { step, fence, what: describe(attempt), timeoutMs }
  switch (work.kind) {
    case 'agent':
      return { ...common, kind: 'agent', agent: work.agent, input: work.input, bound: work.bound }
    case 'tool': {
      const spec = work.bound.tools[work.tool]
      if (!spec) return new Failure('internal.bug', `the definition binds no tool ${work.tool}`)
      return { ...common, kind: 'tool', entry: entryOf(work.tool, spec), input: work.input }
    }
    case 'route': {
      const { model, question, options, fallback } = work
      const to = Object.fromEntries(options.map(({ step: name, when }) => [name, when]))
      return { ...common, kind: 'route', model, question, to, fallback }
    }
    case 'function':
    case 'command':
      return new Failure('internal.bug', `${describe(attempt)} is no step of agents`)
  }
}
