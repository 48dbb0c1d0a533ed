import type { Json, JsonObject } from '../../base/json.ts'
import type { ServerEntry } from '../agents/journal.ts'
import type { OperationClass } from '../agents/verdict.ts'
import type { Question } from '../begin.ts'
import { idsOf, type Step, type StepKey } from '../step.ts'
import type { Decision } from './happenings.ts'
import type { StoredWorkflow } from './needs.ts'

/** The call of a tool that an approval is about. */
export interface CallAsked {
  /** May it be made, or was it made. */
  about: 'call' | 'outcome'
  call: string
  agent: string | null
  tool: string
  operation: OperationClass | null
  input: JsonObject
}

/** Rows beside the steps that are to be written with them. */
export interface BesideRows {
  /** Approvals to ask for; one that is there already stays. */
  asked: (StepKey & Question & { id: string; fence: number; expiresAt: number | null; about?: CallAsked })[]
  /** Approvals that have ended. Only those still pending change. */
  answered: {
    id: string
    state: 'approved' | 'denied' | 'expired' | 'canceled'
    decision: Decision | null
    /** Of a call: the arguments as the person changed them, and what it gave. */
    edited?: JsonObject | null
    output?: Json
  }[]
  /** Events that steps have taken. */
  taken: (StepKey & { id: string })[]
  /** Runs to start below this one. */
  children: (StepKey & { runId: string; fence: number; workflow: StoredWorkflow; inputs: JsonObject })[]
  /** Runs below that nobody waits for any more. */
  orphans: string[]
  /** What the server adds to journals, under the last attempt before it. */
  journaled: (StepKey & { fence: number; entry: ServerEntry })[]
  /** Activations of agents whose calls nobody has to decide about any more. */
  closed: StepKey[]
}

export const nothingBeside = (): BesideRows => ({
  asked: [],
  answered: [],
  taken: [],
  children: [],
  orphans: [],
  journaled: [],
  closed: [],
})

/** What has to be let go of when a step no longer waits for what it waited for. */
export function letGo(before: Step, beside: BesideRows): void {
  if (before.state !== 'waiting' || before.on === null) return
  if (before.waits === 'approval') beside.answered.push({ id: before.on, state: 'canceled', decision: null })
  else if (before.waits === 'child') beside.orphans.push(...idsOf(before))
}
