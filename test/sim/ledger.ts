// What was said and what was done: every write must have been somebody's who held the step, and every promise must have been kept.
import type { Report, ReportAck, ReportRequest, ReportResponse } from '../../src/contract/exchange.ts'
import { mayRunMove, mayStepMove, type RunState, type StepState } from '../../src/domain/machines.ts'
import type { AuditRow } from './store.ts'

interface End {
  session: string
  to: string
}

const isEndKind = (kind: Report['kind']): boolean => kind !== 'started' && kind !== 'log'

/** Moves that one settlement makes in one write, through a state that nobody sees. */
const COMPOSITE = new Set([
  'pending>running', // readied and leased by the statement that completed the last need
  'blocked>queued', // a retry or skip by hand that meets its join at once
])

export class Ledger {
  /** Reports that a server was asked to record: `session|step@fence|kind`. */
  readonly #said = new Set<string>()
  readonly #ends = new Map<string, End>()
  /** Attempts whose worker was told that their beginning is recorded. */
  readonly #began = new Set<string>()
  readonly #isGone: (session: string) => boolean
  #acks: { session: string; report: Report; ack: ReportAck }[] = []
  readonly recorded = { ends: 0, acks: 0, moves: 0 }

  constructor(isGone: (session: string) => boolean) {
    this.#isGone = isGone
  }

  asked(request: ReportRequest): void {
    for (const r of request.reports) this.#said.add(`${request.session}|${r.step}@${r.fence}|${r.kind}`)
  }

  answered(request: ReportRequest, response: ReportResponse): void {
    for (const [i, report] of request.reports.entries()) {
      const ack = response.acks[i]
      if (ack) this.#acks.push({ session: request.session, report, ack })
    }
  }

  /** Holds what the store wrote down against what was said. Gives what is broken. */
  check(audit: readonly AuditRow[]): string[] {
    const broken = audit.flatMap((row) => (row.node === null ? checkRun(row) : this.#checkStep(row)))
    this.recorded.moves += audit.length
    for (const { session, report, ack } of this.#acks) {
      if (ack.outcome !== 'recorded') continue
      if (report.kind === 'started') this.#began.add(`${session}|${report.step}@${report.fence}`)
      if (!isEndKind(report.kind)) continue
      this.recorded.acks += 1
      const end = this.#ends.get(`${report.step}@${report.fence}`)
      if (!end) broken.push(`acknowledged, not recorded: ${report.kind} of ${report.step}@${report.fence}`)
      else if (end.session !== session)
        broken.push(
          `write without current session: ${report.kind} of ${report.step}@${report.fence} was acknowledged to ${session}, held by ${end.session}`,
        )
    }
    this.#acks = []
    return broken
  }

  #checkStep(row: AuditRow): string[] {
    const { from_state: from, to_state: to } = row
    const step = row.path === '' ? `${row.run_id}.${row.node}` : `${row.run_id}.${row.node}.${row.path}`
    if (from === null) return []
    const broken: string[] = []
    const move = `${from}>${to}`
    if (from !== to && !COMPOSITE.has(move) && !mayStepMove(from as StepState, to as StepState))
      broken.push(`forbidden transition: ${step} went ${move}`)
    const isLeased = to === 'running' && from !== 'running'
    // What waits in a row begins without a lease: its fence counts its tries, and it may end as soon as it begins.
    const mayBegin = (from === 'pending' || from === 'waiting') && ['waiting', 'succeeded', 'failed'].includes(to)
    const rise = row.to_fence - row.from_fence
    if (rise !== (isLeased ? 1 : 0) && !(mayBegin && rise === 1))
      broken.push(`fence: ${step} went ${move} and from fence ${row.from_fence} to ${row.to_fence}`)
    if (from === 'running' && to !== 'running') broken.push(...this.#checkEnd(row, step))
    return broken
  }

  #checkEnd(row: AuditRow, step: string): string[] {
    const key = `${step}@${row.from_fence}`
    const session = row.from_session ?? ''
    const broken: string[] = []
    if (this.#ends.has(key)) broken.push(`recorded twice: ${key}`)
    this.#ends.set(key, { session, to: row.to_state })
    this.recorded.ends += 1
    const said = (...kinds: string[]) => row.live && kinds.some((kind) => this.#said.has(`${session}|${key}|${kind}`))
    const by = `${key} held by ${session}${row.live ? '' : ', which has ended'}`
    switch (row.to_state) {
      case 'succeeded':
        if (!said('succeeded')) broken.push(`write without current session and fence: success of ${by}`)
        else if (attemptOf(row.output) !== key)
          broken.push(`write without current fence: ${by} has the output of ${attemptOf(row.output)}`)
        break
      case 'failed':
      case 'waiting':
      case 'queued':
        // By its worker's word, by its deadline, or by the loss of its worker.
        if (!said('failed', 'returned', 'canceled', 'parked') && !row.due && !this.#isLost(row, key))
          broken.push(
            `write without current session and fence: ${by} went to ${row.to_state} (${row.code ?? 'no failure'})`,
          )
        break
      default:
        break
    }
    return broken
  }

  /** The session has ended, its process is gone, or it never said a word about the attempt. */
  #isLost(row: AuditRow, key: string): boolean {
    const session = row.from_session ?? ''
    if (!row.live || this.#isGone(session)) return true
    return row.code === 'attempt.never_acknowledged' && !this.#began.has(`${session}|${key}`)
  }
}

function checkRun(row: AuditRow): string[] {
  const from = row.from_state as RunState
  return from === row.to_state || mayRunMove(from, row.to_state as RunState)
    ? []
    : [`forbidden transition: ${row.run_id} went ${from}>${row.to_state}`]
}

function attemptOf(output: unknown): string {
  return typeof output === 'object' && output !== null && 'attempt' in output ? String(output.attempt) : 'nobody'
}
