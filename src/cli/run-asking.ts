import { Failure } from '../domain/failure.ts'
import { Absence } from '../client/absence.ts'
import type { Client } from '../client/client.ts'
import type { ApprovalView } from '../contract/api-types.ts'
import type { CliDeps } from './deps.ts'
import type { Output } from './output.ts'
import type { RunDisplay } from './run-display.ts'
import { type Line, printableLine, span } from './terminal-text.ts'

export interface AskingOptions {
  deps: CliDeps
  output: Output
  display: RunDisplay
  client: Client
  /** Approve everything, as somebody said beforehand. */
  yes: boolean
  /** Whether another process can decide: the run is on a server. */
  isRemote: boolean
  /** Ends what waits for an answer. */
  signal: AbortSignal
}

/** What `orrery run` does about an approval that its run, or a run below it, asks for: approve it, ask, or say which command decides. */
export async function answerApproval(options: AskingOptions, approval: ApprovalView): Promise<void> {
  const { deps, output, display } = options
  // Said beforehand, yes is for what is asked: nobody knew then that a call may have been made already, and would be made again.
  if (options.yes && approval.call?.about !== 'outcome') return decide(options, approval, { approve: true })
  if (!output.isData && deps.stdin.isTty && deps.stdout.isTty) return ask(options, approval)
  if (output.isData) output.printData({ type: 'approval', approval })
  else display.note([...askedLines(approval), [span(`  ${howTo(options, approval)}`, 'accent')]])
}

/** What is asked; of a call also with which arguments, whole: who decides has to see all of them. */
const askedLines = ({ step, run, message, call }: ApprovalView): Line[] => [
  [span(`${printableLine(step)} of ${run} asks: `, 'warn'), span(printableLine(message))],
  ...(call === null
    ? []
    : [[span(`  ${printableLine(call.tool)} `), span(printableLine(JSON.stringify(call.input)), 'dim')]]),
]

/** Commands that decide it elsewhere: a step asks once, an agent perhaps several times, each with an id of its own. */
const deciding = ({ id, run, step, call }: ApprovalView): [approve: string, deny: string] =>
  call === null
    ? [`orrery runs approve ${run} ${printableLine(step)}`, 'orrery runs deny']
    : [`orrery approvals approve ${id}`, `orrery approvals deny ${id}`]

function howTo({ isRemote }: AskingOptions, approval: ApprovalView): string {
  return isRemote
    ? deciding(approval).join(', or ')
    : 'Nobody else can decide it: run it with --yes, on a terminal, or on a server with --server.'
}

/** `[y/N]`: y approves, n denies, Enter leaves it to somebody else. */
async function ask(options: AskingOptions, approval: ApprovalView): Promise<void> {
  const { deps, display, signal } = options
  display.note(askedLines(approval))
  const goOn = display.pause()
  let answer: string | null
  try {
    deps.stderr.write('approve? y approves, n denies, Enter leaves it [y/N] ')
    answer = await deps.stdin.readLine(signal)
  } finally {
    goOn()
  }
  const word = answer?.trim().toLowerCase() ?? ''
  if (['y', 'yes'].includes(word)) return decide(options, approval, { approve: true })
  if (['n', 'no'].includes(word)) return decide(options, approval, { approve: false })
  if (!signal.aborted) display.note([[span(`left open: ${howTo(options, approval)}`, 'dim')]])
}

async function decide(
  options: AskingOptions,
  approval: ApprovalView,
  { approve }: { approve: boolean },
): Promise<void> {
  const { deps, client, output, display, signal } = options
  const { id, step, run, message } = approval
  try {
    // Of one decision whose answer was lost the second is refused as already decided.
    const decided = await new Absence(deps).outlasting(signal, () =>
      approve ? client.approve(id, {}) : client.deny(id, {}),
    )
    if (output.isData) output.printData({ type: 'approval', approval: decided })
    else
      display.note([
        [
          span(`${printableLine(step)} of ${run} is `),
          span(decided.state, approve ? 'good' : 'bad'),
          span(`: ${printableLine(message)}`, 'dim'),
        ],
      ])
  } catch (error) {
    if (!(error instanceof Failure) || error.code === 'internal.bug') throw error
    // Somebody was faster, or the run has ended meanwhile: the run itself tells how it goes on.
    if (['approval.already_decided', 'approval.expired', 'run.finished'].includes(error.code)) return
    output.remark(`${printableLine(step)} of ${run} could not be decided: ${error.code}: ${error.message}`)
    output.remark(`  ${error.remediation}`, `  ${deciding(approval)[0]}`)
  }
}
