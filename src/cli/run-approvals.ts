import { Absence, type AbsenceDeps } from '../client/absence.ts'
import type { Client } from '../client/client.ts'
import type { ApprovalView, RunEvent, RunView } from '../contract/api-types.ts'
import { LIMITS } from '../domain/limits.ts'

export interface RunApprovalsOptions extends AbsenceDeps {
  client: Client
  /** Ends the looking. */
  signal: AbortSignal
  /** Called once for each approval that is asked for, one after the other. */
  asked(approval: ApprovalView): Promise<void>
  /** Looking failed in a way that does not pass, told once; following the run goes on. */
  failed(error: unknown): void
}

type Change = RunEvent['changes'][number]

/** Names of the steps that may ask somebody, themselves or by a run below; `any` when the run has more than it shows. */
type AskingSteps = ReadonlySet<string> | 'any'

/** Kinds of steps that ask people, or have runs below them that may. */
const ASKING_KINDS: ReadonlySet<string> = new Set(['approval', 'workflow', 'agent', 'tool'])

function askingSteps({ steps, stepList }: RunView): AskingSteps {
  const names = stepList.filter(({ kind }) => ASKING_KINDS.has(kind)).map(({ name }) => name)
  return steps.total > stepList.length ? 'any' : new Set(names)
}

/** Finds what a run and all runs below it ask people for, each approval once, as long as the run is followed. */
export class RunApprovals {
  readonly #options: RunApprovalsOptions
  readonly #asked = new Set<string>()
  readonly #followed = new Set<string>()
  /** Runs that are being looked at, and whether they are to be looked at again. */
  readonly #looks = new Map<string, { again: boolean }>()
  readonly #steps = new Map<string, AskingSteps>()
  #answering: Promise<void> = Promise.resolve()
  #hasFailed = false

  constructor(run: RunView, options: RunApprovalsOptions) {
    this.#options = options
    this.#steps.set(run.id, askingSteps(run))
  }

  /** Hands over an event of a run. Only steps that ask people or have runs below them are looked at: others wait for much else. */
  event(runId: string, event: Pick<RunEvent, 'changes'>): void {
    const steps = this.#steps.get(runId)
    const asks = ({ of, to }: Change): boolean =>
      to === 'waiting' && (steps === 'any' || steps?.has(of.replace(/\[.*$/, '')) === true)
    if (event.changes.some(asks)) void this.#look(runId)
  }

  async #look(runId: string): Promise<void> {
    const under = this.#looks.get(runId)
    if (under) {
      under.again = true
      return
    }
    const { signal } = this.#options
    const absence = new Absence(this.#options)
    const look = { again: true }
    this.#looks.set(runId, look)
    try {
      while (look.again && !signal.aborted) {
        look.again = false
        // Given up, it might never look again: an event that tells of what is asked came already.
        await absence.outlasting(signal, async () => {
          await this.#askOf(runId)
          await this.#followBelow(runId)
        })
        absence.brought()
      }
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#looks.delete(runId)
    }
  }

  async #askOf(runId: string): Promise<void> {
    const { client, asked } = this.#options
    for (let cursor: string | undefined; ;) {
      const query = { run: runId, states: ['pending' as const], limit: LIMITS.pageMax }
      const page = await client.listApprovals({ ...query, ...(cursor === undefined ? {} : { cursor }) })
      for (const approval of page.items) {
        if (this.#asked.has(approval.id)) continue
        this.#asked.add(approval.id)
        this.#answering = this.#answering.then(() => asked(approval)).catch((error: unknown) => this.#fail(error))
      }
      if (page.next === null) return
      cursor = page.next
    }
  }

  async #followBelow(runId: string): Promise<void> {
    for (let cursor: string | undefined; ;) {
      const page = await this.#options.client.listSteps(runId, {
        limit: LIMITS.pageMax,
        ...(cursor === undefined ? {} : { cursor }),
      })
      for (const { waitsOn } of page.items) {
        for (const below of waitsOn?.kind === 'child' ? (waitsOn.on ?? '').split(' ') : []) {
          if (this.#followed.has(below)) continue
          this.#followed.add(below)
          void this.#follow(below)
        }
      }
      if (page.next === null) return
      cursor = page.next
    }
  }

  async #follow(runId: string): Promise<void> {
    const { client, signal } = this.#options
    const absence = new Absence(this.#options)
    const follow = async (): Promise<void> => {
      this.#steps.set(runId, askingSteps(await client.getRun(runId)))
      for await (const event of client.followEvents(runId, { signal })) {
        absence.brought()
        this.event(runId, event)
      }
    }
    try {
      await absence.outlasting(signal, follow)
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    if (this.#options.signal.aborted || this.#hasFailed) return
    this.#hasFailed = true
    this.#options.failed(error)
  }
}
