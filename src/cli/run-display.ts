import { formatDuration } from '../base/index.ts'
import type { RunEvent, RunView } from '../contract/api-types.ts'
import type { CliDeps } from './deps.ts'
import type { Output } from './output.ts'
import {
  addActivation,
  applyEvent,
  isStepState,
  noteDoing,
  noteReason,
  progressOf,
  rewind,
  type RunProgress,
  standingOf,
  type Told,
} from './progress.ts'
import { Screen } from './screen.ts'
import { type Line, padEnd, padStart, printableLine, span, type Style } from './terminal-text.ts'
import { styleOfRun, treeLines } from './tree.ts'
import type { StepView } from '../contract/api-types.ts'

/** How a run that is followed appears: a tree that is drawn in place, a line for each change, or JSON lines. */
export interface RunDisplay {
  event(event: RunEvent): void
  /** A cancel was asked for. */
  canceling(): void
  /** A step waits, and `lines` say why. */
  waits(step: StepView, lines: Line[]): void
  /** An agent is at this, in a few words; `lines` say more where there is room for it. */
  agent(step: string, doing: string | null, lines: Line[]): void
  /** Says something that stays, above what is drawn. */
  note(lines: Line[]): void
  /** Draws nothing until the function that it gives is called: somebody is typing. */
  pause(): () => void
  /** Leaves the last state on the screen; nothing is drawn afterwards. */
  end(run: RunView, failed: StepView[]): void
  /** Stops drawing without a last state. */
  abandon(): void
}

/** 12 frames a second at most: the eye asks for no more, a slow link gets no more. */
const FRAME_MS = 84
/** Lines that the last state may take. */
const FINAL_HEIGHT = 60

type DisplayDeps = Pick<CliDeps, 'stdout' | 'clock' | 'colour'>

export function createRunDisplay(deps: DisplayDeps, output: Output, run: RunView): RunDisplay {
  if (output.isData) return jsonDisplay(output, run)
  return deps.stdout.isTty ? treeDisplay(deps, run) : lineDisplay(output, run)
}

function jsonDisplay(output: Output, run: RunView): RunDisplay {
  output.printData({ type: 'run', run })
  return {
    event: ({ seq, at, changes }) => output.printData({ type: 'event', runId: run.id, seq, at, changes }),
    canceling: () => output.printData({ type: 'canceling', runId: run.id }),
    waits: ({ name, state, reason }) => output.printData({ type: 'reason', runId: run.id, step: name, state, reason }),
    agent: () => {},
    note: () => {},
    pause: () => () => {},
    end: () => {},
    abandon: () => {},
  }
}

function lineDisplay(output: Output, run: RunView): RunDisplay {
  const progress = progressOf(run)
  rewind(progress)
  output.print([span(`${run.id}  `), span(printableLine(run.workflow))])
  return {
    event: (event) => output.print(...applyEvent(progress, event).map(toldLine)),
    canceling: () => output.remark('canceling… (interrupt again to leave without waiting)'),
    waits: (_, lines) => output.print(...lines),
    agent: (step, _, lines) =>
      output.print(...lines.map((line) => [span(`${printableLine(step)} │ `, 'dim'), ...line])),
    note: (lines) => output.print(...lines),
    pause: () => () => {},
    end: () => {},
    abandon: () => {},
  }
}

/** `12:00:01.123  measure[3]  succeeded  38ms`; times are UTC. */
export function toldLine(told: Told): Line {
  const time = told.atMs === null ? '--:--:--.---' : new Date(told.atMs).toISOString().slice(11, 23)
  return [
    span(`${time}  `, 'dim'),
    span(`${padEnd(printableLine(told.of), 20)}  `),
    span(padEnd(printableLine(told.to), 9), styleOfChange(told)),
    span(told.tookMs === null ? '' : `  ${padStart(formatDuration(told.tookMs), 7)}`),
    span(told.detail ? `  ${printableLine(told.detail)}` : '', 'dim'),
  ]
}

function styleOfChange(told: Told): Style {
  if (told.of === 'run') return styleOfRun(told.to)
  if (!isStepState(told.to)) return 'warn'
  const standing = standingOf(told.to)
  if (standing === 'open') return 'dim'
  return standing === 'active' ? 'accent' : standing
}

function treeDisplay(deps: DisplayDeps, run: RunView): RunDisplay {
  const progress = progressOf(run)
  rewind(progress)
  const screen = new Screen(deps)
  const stopped = new AbortController()
  let isPaused = false
  const height = () => Math.max(2, deps.stdout.rows - 1)
  const draw = (max: number) =>
    screen.draw(
      // One column stays free: a full line makes some terminals wrap, and then the frame no longer has the lines we count.
      treeLines(progress, { nowMs: deps.clock.now(), width: Math.max(10, deps.stdout.columns - 1), height: max }),
    )
  const animate = async () => {
    while (!stopped.signal.aborted) {
      if (!isPaused) draw(height())
      await deps.clock.sleep(FRAME_MS, stopped.signal)
    }
  }
  // Ends by the abort alone; what the sleep rejects with is that abort.
  animate().catch(() => {})
  const stop = () => {
    stopped.abort()
    screen.close()
  }
  return {
    event: (event) => void applyEvent(progress, event),
    canceling: () => {
      progress.canceling = true
    },
    waits: (step) => noteReason(progress, step),
    agent: (step, doing) => {
      if (doing !== null) noteDoing(progress, step, doing)
    },
    note: (lines) => screen.above(lines),
    pause: () => {
      isPaused = true
      screen.above([])
      screen.close()
      return () => void (isPaused = false)
    },
    end: (final, failed) => {
      stopped.abort()
      copyFinal(progress, final, failed)
      draw(FINAL_HEIGHT)
      screen.close()
    },
    abandon: stop,
  }
}

/** The last answer of the server corrects what events left out: outcomes, reasons, counts. */
function copyFinal(progress: RunProgress, run: RunView, failed: StepView[]): void {
  const final = progressOf(run)
  for (const step of failed) if (step.name.includes('[')) addActivation(final, step)
  Object.assign(progress, final)
}
