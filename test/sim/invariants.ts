// What must hold of the store after every tick, whoever died in it.
import type { RunEvent } from '../../src/contract/api-types.ts'
import { isStepTerminal, mayRunMove, type RunState, STEP_EDGES, type StepState } from '../../src/domain/machines.ts'
import { endsWell, ringOf } from '../../src/domain/rings.ts'
import type { Definition } from '../../src/domain/workflow.ts'
import type { Db } from '../../src/store/index.ts'

export interface RunRow {
  id: string
  definition: string
  state: string
  stop: string | null
  open: number
  active: number
  bad: number
  total: number
  event_seq: number
  ended: boolean
}

export interface StepRow {
  run_id: string
  node: number
  path: string
  state: StepState
  need: number
  ok: number
  bad: number
  total: number
  fence: number
  session: string | null
  waits: string | null
  journal_from: number
  released: number
  due_ms: number | null
}

export interface Snapshot {
  runs: RunRow[]
  steps: StepRow[]
}

export async function readSnapshot(db: Db): Promise<Snapshot> {
  const rows = await db.query<{ runs: RunRow[] | null; steps: StepRow[] | null }>(
    `select (select json_agg(r order by r.id) from (
               select id, definition, state, stop, open, active, bad, total, event_seq, ended_at is not null as ended from run) r) as runs,
            (select json_agg(s order by s.run_id, s.node, s.path) from (
               select run_id, node, path, state, need, ok, bad, total, fence, session, waits, journal_from, released,
                      extract(epoch from due_at) * 1000 as due_ms from step) s) as steps`,
  )
  return { runs: rows[0]?.runs ?? [], steps: rows[0]?.steps ?? [] }
}

/** Counters, joins and readiness, held against the graph. Gives what is broken. */
export function checkSnapshot({ runs, steps }: Snapshot, definitions: ReadonlyMap<string, Definition>): string[] {
  const byRun = Map.groupBy(steps, (s) => s.run_id)
  return runs.flatMap((run) => {
    const definition = definitions.get(run.definition)
    if (!definition) return [`run ${run.id} has an unknown definition`]
    const mine = byRun.get(run.id) ?? []
    return [...checkCounters(run, mine, definition), ...checkJoins(run, mine, definition)]
  })
}

function checkCounters(run: RunRow, steps: readonly StepRow[], definition: Definition): string[] {
  const count = (is: (s: StepRow) => boolean) => steps.filter(is).length
  const isBad = (s: StepRow) =>
    s.path === '' && (s.state === 'blocked' || (s.state === 'failed' && !endsWell(definition.nodes[s.node], s)))
  const told = { open: run.open, active: run.active, bad: run.bad, total: run.total }
  const counted = {
    open: count((s) => !isStepTerminal(s.state)),
    active: count((s) => s.state === 'queued' || s.state === 'running'),
    bad: count(isBad),
    total: steps.length,
  }
  const broken: string[] = []
  if (JSON.stringify(told) !== JSON.stringify(counted))
    broken.push(`counters: ${run.id} says ${JSON.stringify(told)}, its steps ${JSON.stringify(counted)}`)
  if (run.ended !== (counted.open === 0)) broken.push(`end: ${run.id} is ${run.state} with ${counted.open} open steps`)
  if (run.ended !== ['succeeded', 'failed', 'canceled'].includes(run.state))
    broken.push(`end: ${run.id} is ${run.state}, ended ${run.ended}`)
  return broken
}

function checkJoins(run: RunRow, steps: readonly StepRow[], definition: Definition): string[] {
  const at = new Map(steps.filter((s) => s.path === '').map((s) => [s.node, s]))
  const children = Map.groupBy(
    steps.filter((s) => s.path !== ''),
    (s) => s.node,
  )
  return steps.flatMap((step) => {
    const node = definition.nodes[step.node]
    if (!node) return [`step ${step.run_id}.${step.node} is in no graph`]
    const name = `${step.run_id}.${step.node}${step.path === '' ? '' : `.${step.path}`}`
    const broken: string[] = []
    const mine = children.get(step.node) ?? []
    if (step.path === '' && step.state === 'pending') {
      const needs = node.needs.map((n) => at.get(n)).filter((s) => s !== undefined)
      const isGood = (s: StepRow) => endsWell(definition.nodes[s.node], s)
      const ok = needs.filter(isGood).length
      const bad = needs.filter((s) => isStepTerminal(s.state) && !isGood(s)).length
      if (step.ok !== ok || step.bad !== bad)
        broken.push(`join: ${name} counts ${step.ok} ok and ${step.bad} bad, its needs say ${ok} and ${bad}`)
      // What next joins begins together: one of it waits for the others.
      const ring = node.turns === undefined ? [step] : ringOf(definition, step.node).flatMap((n) => at.get(n) ?? [])
      const isHeld = ring.some((s) => s.state === 'pending' && s.ok < s.need && s.total - s.bad >= s.need)
      const isDue = ring.some((s) => s.due_ms !== null)
      if (!isHeld && (step.ok >= step.need || step.total - step.bad < step.need) && !isDue)
        broken.push(`waits though it could run: ${name} has ${step.ok} of ${step.need} needs and nothing is due`)
    }
    if (step.state === 'waiting' && step.waits === 'children') {
      const ok = mine.filter((c) => endsWell(node, c)).length
      const bad = mine.filter((c) => isStepTerminal(c.state) && !endsWell(node, c)).length
      if (step.ok !== ok || step.bad !== bad || step.total !== mine.length)
        broken.push(
          `join: ${name} counts ${step.ok} ok and ${step.bad} bad of ${step.total}, its activations say ${ok} and ${bad} of ${mine.length}`,
        )
      const released = mine.filter((c) => (node.turns ? c.released > 0 : c.state !== 'pending')).length
      if (step.released !== released)
        broken.push(`released: ${name} says ${step.released}, its activations ${released}`)
      broken.push(...checkTurns(run, definition, { step, at, children }))
      const hasRoom = step.released < step.total && step.released - ok - bad < (node.maxParallel ?? step.total)
      if (!node.turns && (ok + bad >= step.total || hasRoom) && step.due_ms === null && run.stop === null)
        broken.push(
          `waits though it could go on: ${name} has ${ok + bad} of ${step.total} done, ${step.released} released`,
        )
      if (node.maxParallel !== null && step.released - ok - bad > node.maxParallel)
        broken.push(`too many at once: ${name} has ${step.released - ok - bad} of ${node.maxParallel} activations out`)
    }
    if (step.state === 'waiting' && step.waits === 'backoff' && step.due_ms === null)
      broken.push(`waits though it could run: ${name} backs off and nothing is due`)
    if (step.state === 'running' && step.session === null) broken.push(`runs for nobody: ${name}`)
    if (isStepTerminal(step.state) && step.due_ms !== null) broken.push(`ended and due: ${name}`)
    return broken
  })
}

/** A step of a ring takes no more turns than it may, its ring is open as a whole, and while no turn is under way somebody looks at it. */
function checkTurns(
  run: RunRow,
  definition: Definition,
  {
    step,
    at,
    children,
  }: { step: StepRow; at: ReadonlyMap<number, StepRow>; children: ReadonlyMap<number, readonly StepRow[]> },
): string[] {
  const node = definition.nodes[step.node]
  if (!node?.turns) return []
  const broken: string[] = []
  const name = `${step.run_id}.${step.node}`
  if (step.total > step.need) broken.push(`too many turns: ${name} has taken ${step.total} of ${step.need}`)
  const members = ringOf(definition, step.node)
  const steps = members.flatMap((n) => at.get(n) ?? [])
  const isUnderWay = members.some((n) => (children.get(n) ?? []).some((c) => !isStepTerminal(c.state)))
  const isDue = steps.some((s) => s.due_ms !== null)
  const isTogether = steps.every((s) => s.state === 'waiting')
  if (!isTogether) broken.push(`a ring apart: ${name} is open, its others are ${steps.map((s) => s.state).join(', ')}`)
  if (!isUnderWay && !isDue && run.stop === null)
    broken.push(`waits though it could go on: no turn of ${name} is under way`)
  return broken
}

interface EventRow {
  run_id: string
  seq: number
  changes: RunEvent['changes']
}

/** Reads each run's events as they come: gapless, and telling what the steps' rows say. */
export class EventReader {
  readonly #seq = new Map<string, number>()
  readonly #states = new Map<string, Map<string, string>>()

  async check(db: Db, { runs, steps }: Snapshot, definitions: ReadonlyMap<string, Definition>): Promise<string[]> {
    const fresh = runs.filter((r) => this.#seq.get(r.id) !== r.event_seq)
    if (fresh.length === 0) return []
    const events = await db.query<EventRow>(
      `select e.run_id, e.seq, e.changes from unnest($1::text[], $2::int[]) as k(run_id, seq)
         join event e on e.run_id = k.run_id and e.seq > k.seq order by e.run_id, e.seq`,
      [fresh.map((r) => r.id), fresh.map((r) => this.#seq.get(r.id) ?? 0)],
    )
    const broken = events.flatMap((e) => this.#take(e))
    for (const run of fresh) {
      if (this.#seq.get(run.id) !== run.event_seq)
        broken.push(`events: ${run.id} has ${this.#seq.get(run.id) ?? 0}, its row says ${run.event_seq}`)
      broken.push(...this.#compare(run, steps, definitions))
    }
    return broken
  }

  #take({ run_id: id, seq, changes }: EventRow): string[] {
    const broken: string[] = []
    const last = this.#seq.get(id) ?? 0
    if (seq !== last + 1) broken.push(`events: ${id} goes from ${last} to ${seq}`)
    this.#seq.set(id, seq)
    const states = this.#states.get(id) ?? new Map<string, string>()
    this.#states.set(id, states)
    for (const { of, to } of changes) {
      if (to !== 'canceling') {
        const from = states.get(of) ?? (of === 'run' ? '' : 'pending')
        if (!(of === 'run' ? mayRunFollow(from, to) : mayFollow(from, to)))
          broken.push(`events: ${id} tells that ${of} went ${from}>${to}`)
      }
      if (to !== 'canceling') states.set(of, to)
    }
    return broken
  }

  #compare(run: RunRow, steps: readonly StepRow[], definitions: ReadonlyMap<string, Definition>): string[] {
    const told = this.#states.get(run.id)
    const names = definitions.get(run.definition)?.nodes.map((n) => n.name) ?? []
    return steps
      .filter((s) => s.run_id === run.id)
      .flatMap((s) => {
        const name = s.path === '' ? names[s.node] : `${names[s.node]}[${Number(s.path)}]`
        const state = told?.get(name ?? '') ?? 'pending'
        // That a step is leased is told with the next report of its worker.
        if (state === s.state || (state === 'queued' && s.state === 'running')) return []
        return [`events: ${run.id} tells that ${name} is ${state}, its row says ${s.state}`]
      })
  }
}

/** Through `running`, which is told only when it lasted or when the step ended. */
function mayFollow(from: string, to: string): boolean {
  const edges = STEP_EDGES as Record<string, Partial<Record<string, string>>>
  if (edges[from]?.[to] !== undefined) return true
  if (from === 'queued' && (to === 'queued' || edges['running']?.[to] !== undefined)) return true
  // By hand: opened again and ready at once.
  return from === 'blocked' && to === 'queued'
}

function mayRunFollow(from: string, to: string): boolean {
  if (from === '') return to === 'pending'
  // A step that is skipped in a run that has ended may leave it as it was: the event says again how it stands.
  if (from === to) return to === 'failed' || to === 'succeeded'
  return mayRunMove(from as RunState, to as RunState)
}
