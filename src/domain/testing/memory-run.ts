import { assert } from '../../base/assert.ts'
import type { JsonObject, Json } from '../../base/json.ts'
import { type Random, seededRandom } from '../../base/random.ts'
import type { JournalEntry } from '../agents/journal.ts'
import type { AskedCall, Denial } from '../agents/verdict.ts'
import { advance } from '../advance/advance.ts'
import { dependentsOf } from '../advance/dependents.ts'
import type { Anything, Happening, RunCore } from '../advance/happenings.ts'
import type { CallApproval, Given, KeptEvent, Need, StoredWorkflow } from '../advance/needs.ts'
import type { AdvanceResult } from '../advance/result.ts'
import type { Scope } from '../expression.ts'
import { failureRecord } from '../failure.ts'
import type { FailureCode } from '../failures.ts'
import { isStepTerminal } from '../machines.ts'
import { applyToStep, keyText, newStep, pathOf, type Step, type StepKey } from '../step.ts'
import { type Definition, isDecided, needOf } from '../workflow.ts'

export const SESSION = 'ses_memory'

/** A run that lives in a map: what `advance` decides is written there, and what it asks for is read from there. */
export class MemoryRun {
  readonly definition: Definition
  readonly dependents: number[][]
  readonly steps = new Map<string, Step>()
  readonly outputs = new Map<string, Json>()
  readonly inputs: JsonObject
  run: RunCore
  now: number
  random: Random = seededRandom(1)
  ended: AdvanceResult['ended'] = null
  /** Approvals by id, as they stand. */
  readonly approvals = new Map<string, AdvanceResult['beside']['asked'][number] & { state: CallApproval['state'] }>()
  /** What the server added to journals. */
  readonly journal: AdvanceResult['beside']['journaled'] = []
  /** What attempts wrote, with the word on it. */
  readonly written: JournalEntry[] = []
  /** Budgets that have let go of those who wait since the last attempt began. */
  readonly woken = new Set<string>()
  /** The rules' word on runs that are to begin. */
  refusalOf: (call: AskedCall, begun: number) => Denial | null = () => null
  /** Runs below that were started, and those that are to be stopped. */
  readonly children: AdvanceResult['beside']['children'] = []
  readonly orphans: string[] = []
  readonly kept: (KeptEvent & { name: string })[] = []
  /** What may be run below this one, by name. */
  readonly workflows = new Map<string, StoredWorkflow>()
  /** The same by hash. */
  readonly byHash = new Map<string, StoredWorkflow>()
  #sent = 0
  /** What `advance` asked for, in order. */
  readonly needs: Need['type'][] = []
  /** Rows that it was given. */
  rowsGiven = 0

  constructor(definition: Definition, inputs: JsonObject = {}, now = 1_000_000) {
    this.now = now
    this.definition = definition
    this.inputs = inputs
    this.dependents = dependentsOf(definition)
    for (const [node, spec] of definition.nodes.entries())
      this.#set(newStep({ node, path: '' }, spec.needs.length, null, needOf(spec)))
    const total = definition.nodes.length
    this.run = { id: 'run_memory', stop: null, open: total, active: 0, bad: 0, total, failure: null }
    for (const [node, spec] of definition.nodes.entries()) {
      if (spec.needs.length > 0) continue
      if (isDecided(spec)) this.#set({ ...this.step({ node, path: '' }), dueAt: this.now })
      else {
        this.#apply({ node, path: '' }, spec.queueTimeoutMs)
        this.run.active += 1
      }
    }
  }

  #apply(key: StepKey, queueTimeoutMs: number | null): void {
    const expiresAt = queueTimeoutMs === null ? null : this.now + queueTimeoutMs
    const next = applyToStep(this.step(key), { type: 'ready', expiresAt })
    assert(next, 'a fresh step can be readied')
    this.#set(next)
  }

  #set(step: Step): void {
    this.steps.set(keyText(step), step)
  }

  step(key: StepKey): Step {
    const step = this.steps.get(keyText(key))
    assert(step, `no step ${keyText(key)}`)
    return step
  }

  /** The step of a name, or its activation. */
  named(name: string, index?: number): Step {
    const node = this.definition.nodes.findIndex((n) => n.name === name)
    return this.step({ node, path: index === undefined ? '' : pathOf(index) })
  }

  /** States by name: `a: 'queued'`, and of activations `a[0]`. */
  states(): Record<string, string> {
    return Object.fromEntries(
      [...this.steps.values()]
        .sort((a, b) => a.node - b.node || (a.path < b.path ? -1 : 1))
        .map((s) => {
          const name = this.definition.nodes[s.node]?.name ?? ''
          return [s.path === '' ? name : `${name}[${Number(s.path)}]`, s.state]
        }),
    )
  }

  inState(state: Step['state']): Step[] {
    return [...this.steps.values()].filter((s) => s.state === state)
  }

  /** Leases a queued step; gives what an attempt event needs. */
  lease(key: StepKey, session = SESSION): StepKey & { fence: number; session: string } {
    const next = applyToStep(this.step(key), { type: 'leased', session, deadlineAt: null })
    assert(next, `${keyText(key)} is not queued`)
    this.#set(next)
    return { node: next.node, path: next.path, fence: next.fence, session }
  }

  succeed(step: StepKey, output: Json = null): AdvanceResult {
    return this.happen({ ...this.lease(step), type: 'attempt_succeeded', output })
  }

  fail(step: StepKey, code: FailureCode = 'step.function_threw'): AdvanceResult {
    return this.happen({ ...this.lease(step), type: 'attempt_failed', failure: failureRecord(code, 'testing') })
  }

  lose(step: StepKey): AdvanceResult {
    return this.happen({ ...this.lease(step), type: 'attempt_lost', failure: failureRecord('worker.lost', 'testing') })
  }

  /** Looks at every step that is due. */
  due(): AdvanceResult {
    const due = [...this.steps.values()].filter((s) => s.dueAt !== null && s.dueAt <= this.now)
    return this.happen(...due.map((s): Happening => ({ type: 'due', node: s.node, path: s.path })))
  }

  /** Sends an event to the run. */
  send(name: string, payload: Json = null): AdvanceResult {
    this.kept.push({ id: `evt_${++this.#sent}`, name, payload })
    return this.happen({ type: 'event_sent', name })
  }

  happen(...happenings: Anything[]): AdvanceResult {
    const { definition, dependents, now, random } = this
    const machine = advance({ definition, dependents, now, random, run: this.run, happenings })
    let at = machine.next({})
    while (!at.done) at = machine.next(this.#give(at.value))
    const result = at.value
    for (const step of [...result.created, ...result.changed]) this.#set(step)
    for (const o of result.outputs) this.outputs.set(keyText(o), o.output)
    this.#takeBeside(result.beside)
    this.run = result.run
    if (result.ended) this.ended = result.ended
    return result
  }

  #takeBeside({ asked, answered, taken, children, orphans, journaled, closed }: AdvanceResult['beside']): void {
    for (const a of asked) this.approvals.set(a.id, { ...a, state: 'pending' })
    for (const { id, state } of answered) {
      const known = this.approvals.get(id)
      if (known?.state === 'pending') known.state = state
    }
    for (const { id } of taken)
      this.kept.splice(
        this.kept.findIndex((e) => e.id === id),
        1,
      )
    this.children.push(...children)
    this.orphans.push(...orphans)
    this.journal.push(...journaled)
    for (const a of this.approvals.values())
      if (a.about && a.state === 'pending' && closed.some((key) => keyText(key) === keyText(a))) a.state = 'canceled'
  }

  #give(need: Need): Given {
    this.needs.push(need.type)
    const given = this.#answer(need)
    this.rowsGiven += given.steps?.length ?? 0
    return given
  }

  #answer(need: Need): Given {
    switch (need.type) {
      case 'steps':
        return { steps: need.keys.flatMap((k) => this.steps.get(keyText(k)) ?? []) }
      case 'idle_steps':
        return { steps: [...this.steps.values()].filter((s) => ['pending', 'queued', 'waiting'].includes(s.state)) }
      case 'failed_activation': {
        const failed = this.inState('failed').filter((s) => s.node === need.node && s.path !== '')
        return { steps: failed.sort((a, b) => (a.path < b.path ? -1 : 1)).slice(0, 1) }
      }
      case 'pending_activations': {
        const pending = this.inState('pending').filter(
          (s) => s.node === need.node && s.path !== '' && s.path >= need.from,
        )
        return { steps: pending.sort((a, b) => (a.path < b.path ? -1 : 1)).slice(0, need.limit) }
      }
      case 'open_activations':
        return {
          steps: [...this.steps.values()].filter(
            (s) => s.node === need.node && s.path !== '' && !isStepTerminal(s.state),
          ),
        }
      case 'turns_to_follow':
        return {
          steps: [...this.steps.values()].filter(
            (s) =>
              need.nodes.includes(s.node) &&
              s.path !== '' &&
              s.released === 0 &&
              ['pending', 'succeeded', 'skipped', 'failed'].includes(s.state),
          ),
        }
      case 'outputs':
        return {
          outputs: need.keys.flatMap((key) => {
            const step = this.steps.get(keyText(key))
            return step ? [{ ...key, output: this.outputs.get(keyText(key)) ?? null, state: step.state }] : []
          }),
        }
      case 'event_waits': {
        const waiting = this.inState('waiting').filter(
          (s) => s.state === 'waiting' && s.waits === 'event' && s.on === need.name,
        )
        return { steps: waiting.sort((a, b) => a.node - b.node || (a.path < b.path ? -1 : 1)) }
      }
      case 'events':
        return { events: this.kept.filter((e) => e.name === need.name).map(({ id, payload }) => ({ id, payload })) }
      case 'workflow': {
        const found = 'name' in need.ref ? this.workflows.get(need.ref.name) : this.byHash.get(need.ref.hash)
        return found ? { workflow: found } : {}
      }
      case 'approvals':
        return {
          approvals: need.ids.flatMap((id) => {
            const a = this.approvals.get(id)
            return a?.about ? [{ ...a, about: a.about.about, call: a.about.call }] : []
          }),
        }
      case 'child_call': {
        const started = this.journal.findLast(({ entry }) => entry.kind === 'child_started' && entry.run === need.run)
        return started && 'call' in started.entry ? { call: started.entry.call } : {}
      }
      case 'call_entries':
        return {
          entries: [...this.written, ...this.journal.map(({ entry }) => entry)].filter(
            (entry) => 'call' in entry && entry.call === need.call,
          ),
        }
      case 'delegation':
        return { refusal: this.refusalOf(need.call, need.begun) }
      case 'budgets_woken':
        return { isWoken: need.budgets.some((budget) => this.woken.has(budget)) }
      case 'scope':
        return { scope: { inputs: this.inputs, steps: Object.fromEntries(need.nodes.map((n) => this.#scopeOf(n))) } }
    }
  }

  #scopeOf(node: number): [string, Scope['steps'][string]] {
    const step = this.step({ node, path: '' })
    const items = [...this.steps.values()].filter((s) => s.node === node && s.path !== '')
    const outputs = items.map((s): Json => this.outputs.get(keyText(s)) ?? null)
    const own = this.outputs.get(keyText(step))
    const output = own ?? (items.length > 0 ? outputs : null)
    return [this.definition.nodes[node]?.name ?? '', { output, state: step.state }]
  }
}
