import type { Redactor } from '../base/index.ts'
import type { Stage, StageEnd } from './backend.ts'

export const STAGE_WORDS: Record<Stage, string> = { setUp: 'set-up', command: 'command', tearDown: 'tear-down' }

const SHOWN_CHARS = 200

/** `set-up 1 of 2`; the command is one alone. */
export const labelOfStage = ({ stage, number, of }: { stage: Stage; number: number; of: number }): string =>
  stage === 'command' ? STAGE_WORDS.command : `${STAGE_WORDS[stage]} ${number} of ${of}`

/** A command line for people: of a shell's script the first line. */
export function shownCommand(argv: readonly string[], redactor: Redactor | null): string {
  const text = argv[0] === 'sh' && argv[1] === '-c' && argv.length === 3 ? (argv[2] ?? '') : argv.join(' ')
  const clean = (redactor?.text(text) ?? text).trim()
  const line = clean.split('\n')[0] ?? ''
  return line.length > SHOWN_CHARS ? `${line.slice(0, SHOWN_CHARS)} …` : line === clean ? line : `${line} …`
}

/** How a stage ended, as the end of a sentence. */
export function textOfEnd({ end, exitCode, signal, failure }: StageEnd): string {
  if (end === 'not_started') return `did not start: ${failure?.message ?? 'for an unknown reason'}`
  if (end === 'timed_out') return 'ran out of time'
  if (end === 'canceled') return 'was canceled'
  if (end === 'signaled') return `was killed by ${signal ?? 'a signal'}`
  return failure ? `left what cannot be used: ${failure.message}` : `exited with ${exitCode ?? 'no code'}`
}

/** Whether what comes after it may run. */
export const isGoodStage = (end: StageEnd): boolean =>
  end.end === 'exited' && end.exitCode === 0 && end.failure === undefined
