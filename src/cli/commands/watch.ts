import { nearest, parseDuration } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { RunEvent, RunView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import type { CliDeps, Signal } from '../deps.ts'
import { EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { applyEvent, progressOf, rewind } from '../progress.ts'
import { watchReasons } from '../run-reasons.ts'
import { createRunDisplay, toldLine } from '../run-display.ts'
import { resolveRunId } from '../run-ids.ts'
import { exitOfRun, findFailedSteps, outcomeLines, tookOfRun } from '../run-report.ts'
import { printableLine, span } from '../terminal-text.ts'
import { styleOfRun } from '../tree.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

/** Failed steps whose failure is shown in full. */
const SHOWN_FAILURES = 3

export interface TimedFlags extends ServerFlags {
  timeout?: string
}

export interface WaitFlags extends TimedFlags {
  for: string
}

export interface EventFlags extends TimedFlags {
  after?: string
  once?: boolean
  raw?: boolean
}

const WAITED_FOR = ['ended', 'running', 'waiting', 'succeeded', 'failed', 'canceled'] as const
type WaitedFor = (typeof WAITED_FOR)[number]
const ENDS: readonly string[] = ['succeeded', 'failed', 'canceled']

/** Why following ended before the run did. */
type Left = { by: 'signal'; signal: Signal } | { by: 'timeout'; ms: number }

/** Ends following at a signal or when the time is over, whichever comes first. */
class Leaving {
  readonly #stop = new AbortController()
  readonly #interrupts: Interrupts
  left: Left | null = null

  constructor(deps: CliDeps, timeoutMs: number | null) {
    this.#interrupts = new Interrupts(deps)
    void this.#interrupts.first.then((signal) => this.#leave({ by: 'signal', signal }))
    if (timeoutMs === null) return
    deps.clock.sleep(timeoutMs, this.#stop.signal).then(
      () => this.#leave({ by: 'timeout', ms: timeoutMs }),
      () => {}, // rejects when following ended in time
    )
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  #leave(left: Left): void {
    this.left ??= left
    this.#stop.abort()
  }

  close(): void {
    this.#interrupts.stop()
    this.#stop.abort()
  }
}

function timeoutOf(flags: TimedFlags): number | null {
  if (flags.timeout === undefined) return null
  const ms = parseDuration(flags.timeout)
  if (ms === null || ms === 0) {
    throw usageFailure(`--timeout ${flags.timeout} is no duration`, 'Write a duration such as 30s, 5m or 1h30m.')
  }
  return ms
}

/** Exit code after leaving; a time that is over is a failure of its own. */
function exitOfLeaving(left: Left, what: string): number {
  if (left.by === 'signal') return EXIT_OF_SIGNAL[left.signal]
  throw new Failure('client.wait_timed_out', what, { evidence: { timeoutMs: left.ms } })
}

/** `orrery runs watch RUN`: draws a run until it has ended; leaving it changes nothing. */
export async function watchRun(deps: CliDeps, output: Output, id: string, flags: TimedFlags): Promise<number> {
  const timeoutMs = timeoutOf(flags)
  const client = await connect(deps, flags)
  const run = await client.getRun(await resolveRunId(client, id))
  const leaving = new Leaving(deps, timeoutMs)
  const display = createRunDisplay(deps, output, run)
  const reasons = watchReasons(deps, {
    client,
    runId: run.id,
    display,
    width: output.width,
    isEmbedded: false,
    signal: leaving.signal,
  })
  try {
    for await (const event of client.followEvents(run.id, { signal: leaving.signal })) {
      display.event(event)
      reasons.moved()
    }
    const ended = await client.getRun(run.id)
    const failed = ended.state === 'failed' ? await findFailedSteps(client, ended, SHOWN_FAILURES) : []
    display.end(ended, failed)
    if (output.isData) output.printData(outcomeOf(ended))
    else output.print(...outcomeLines(ended, failed, { width: output.width }))
    return exitOfRun(ended)
  } catch (error) {
    display.abandon()
    if (!leaving.left) throw error
    output.remark(`left; ${run.id} goes on: orrery runs watch ${run.id}`)
    return exitOfLeaving(leaving.left, `watching ${run.id}`)
  } finally {
    leaving.close()
  }
}

const outcomeOf = (run: RunView) => ({
  type: 'outcome',
  runId: run.id,
  state: run.state,
  exit: exitOfRun(run),
  durationMs: tookOfRun(run),
  failure: run.failure,
})

/** `orrery runs wait RUN…`: silent until each is as `--for` says; the first bad outcome, in the order of the arguments, is the exit code. */
export async function waitForRuns(deps: CliDeps, output: Output, ids: string[], flags: WaitFlags): Promise<number> {
  const timeoutMs = timeoutOf(flags)
  const wanted = parseWaitedFor(flags.for)
  const client = await connect(deps, flags)
  const runIds: string[] = []
  for (const id of ids) runIds.push(await resolveRunId(client, id))
  const leaving = new Leaving(deps, timeoutMs)
  const open = new Set(runIds)
  const waitFor = async (runId: string): Promise<number> => {
    const run = await untilItIs(client, runId, wanted, leaving.signal)
    open.delete(runId)
    if (output.isData) output.printData({ ...outcomeOf(run), exit: exitOfWaiting(run, wanted) })
    else {
      const code = run.failure ? [span(`  ${run.failure.code}`, 'dim')] : []
      output.print([span(`${run.id}  `), span(run.state, styleOfRun(run.state)), ...code])
    }
    return exitOfWaiting(run, wanted)
  }
  try {
    const exits = await Promise.all(runIds.map(waitFor))
    return exits.find((exit) => exit !== 0) ?? 0
  } catch (error) {
    if (!leaving.left) throw error
    return exitOfLeaving(leaving.left, `waiting for ${[...open].join(', ')}`)
  } finally {
    leaving.close()
  }
}

function parseWaitedFor(text: string): WaitedFor {
  const found = WAITED_FOR.find((state) => state === text)
  if (found) return found
  const near = nearest(text, WAITED_FOR)
  throw usageFailure(
    `--for ${text} is nothing that a run can be`,
    `${near ? `Did you mean ${near}? ` : ''}Write one of ${WAITED_FOR.join(', ')}.`,
  )
}

/** Waited for a state, its coming is success whatever it is; an end that was not waited for is no success. */
function exitOfWaiting(run: RunView, wanted: WaitedFor): number {
  if (wanted === 'ended') return exitOfRun(run)
  if (run.state === wanted) return 0
  return exitOfRun(run) || FAILURES['run.failed'].exit
}

/** The run once it is as wanted, or has ended. A state in between is asked for at each event: what is true now counts, not what once happened. */
async function untilItIs(client: Client, runId: string, wanted: WaitedFor, signal: AbortSignal): Promise<RunView> {
  if (wanted !== 'running' && wanted !== 'waiting') return client.waitForRun(runId, { signal })
  const events = client.followEvents(runId, { signal })[Symbol.asyncIterator]()
  try {
    for (;;) {
      const { done } = await events.next()
      signal.throwIfAborted()
      const run = await client.getRun(runId)
      if (done === true || run.state === wanted || ENDS.includes(run.state)) return run
    }
  } finally {
    await events.return?.()
  }
}

/** `orrery events RUN`: what happened, a line a change, until the run has ended. */
export async function showEvents(deps: CliDeps, output: Output, id: string, flags: EventFlags): Promise<number> {
  const timeoutMs = timeoutOf(flags)
  const afterSeq = parseAfter(flags.after)
  const client = await connect(deps, flags)
  const run = await client.getRun(await resolveRunId(client, id))
  const print = printerOf(output, run, { raw: flags.raw === true, afterSeq })
  if (flags.once) {
    for (let last = 0, page = await client.listEvents(run.id); page.length > 0;) {
      for (const event of page) print(event)
      last = page.at(-1)?.seq ?? last
      page = await client.listEvents(run.id, { afterSeq: last })
    }
    return 0
  }
  const leaving = new Leaving(deps, timeoutMs)
  try {
    for await (const event of client.followEvents(run.id, { signal: leaving.signal })) print(event)
    return 0
  } catch (error) {
    if (!leaving.left) throw error
    // The time was given to be used up: reading for so long was what was asked for.
    return leaving.left.by === 'timeout' ? 0 : EXIT_OF_SIGNAL[leaving.left.signal]
  } finally {
    leaving.close()
  }
}

function parseAfter(text: string | undefined): number {
  if (text === undefined) return 0
  if (!/^\d{1,10}$/.test(text)) throw usageFailure(`--after ${text} is not the number of an event`)
  return Number(text)
}

/** Events before `afterSeq` are read all the same: how long a step took is told by its beginning. */
function printerOf(
  output: Output,
  run: RunView,
  options: { raw: boolean; afterSeq: number },
): (event: RunEvent & { terminal: boolean }) => void {
  const progress = progressOf(run)
  rewind(progress)
  if (!options.raw && !output.isData) output.print([span(`${run.id}  `), span(printableLine(run.workflow))])
  return (event) => {
    const told = applyEvent(progress, event)
    if (event.seq <= options.afterSeq) return
    const { terminal: _, ...plain } = event
    if (options.raw) output.printJson(plain)
    else if (output.isData) output.printData({ type: 'event', runId: run.id, ...plain })
    else output.print(...told.map(toldLine))
  }
}
