// What the database says happened, held against what must be true of it.
import type { Json } from '../../src/base/index.ts'
import type { Change } from '../../src/contract/index.ts'
import type { Attempt, Rig } from './rig.ts'
import { LINES, SHAPES } from './workflows.ts'

const ENDED = new Set(['succeeded', 'failed', 'skipped', 'blocked', 'canceled'])

interface RunRow {
  id: string
  workflow: string
  state: string
  open: number
  active: number
  bad: number
  total: number
  event_seq: number
  steps: number
  failure: unknown
}

interface StepRow {
  run_id: string
  node: number
  path: string
  name: string
  state: string
  fence: number
  ok: number
  need: number
  total: number
  output: Json
}

const nameOf = (s: { name: string; path: string }): string =>
  s.name +
  (s.path === ''
    ? ''
    : s.path
        .split('.')
        .map((index) => `[${Number(index)}]`)
        .join(''))
const idOf = (s: { run_id: string; node: number; path: string }): string =>
  [s.run_id, s.node, ...(s.path === '' ? [] : s.path.split('.').map(Number))].join('.')

/** Everything that is wrong with the history of these runs, all of which were accepted and have ended; empty when nothing is. */
export async function findWrongs(rig: Rig, accepted: ReadonlySet<string>): Promise<string[]> {
  const wrongs: string[] = []
  const runs = await rig.query<RunRow>(
    `select r.id, r.workflow, r.state, r.open, r.active, r.bad, r.total, r.event_seq, r.failure,
            (select count(*)::int from step s where s.run_id = r.id) as steps from run r order by r.id`,
  )
  const known = new Set(runs.map((r) => r.id))
  for (const id of accepted) if (!known.has(id)) wrongs.push(`${id} was accepted and is lost`)
  for (const r of runs) {
    if (!accepted.has(r.id)) wrongs.push(`${r.id} was made twice: nobody was told of it`)
    if (r.state !== 'succeeded') wrongs.push(`${r.id} (${r.workflow}) is ${r.state}: ${JSON.stringify(r.failure)}`)
    if (r.open !== 0 || r.active !== 0 || r.bad !== 0 || r.total !== r.steps)
      wrongs.push(`${r.id} counts ${JSON.stringify(r)}`)
  }
  const steps = await rig.query<StepRow>(
    `select s.run_id, s.node, s.path, n.name, s.state, s.fence, s.ok, s.need, s.total, s.output
       from step s join run r on r.id = s.run_id join definition_node n on n.definition = r.definition and n.node = s.node`,
  )
  const workflows = new Map(runs.map((r) => [r.id, r.workflow]))
  for (const s of steps) {
    const name = `${s.run_id} ${nameOf(s)}`
    if (s.state !== 'succeeded') wrongs.push(`${name} is ${s.state}`)
    if (s.ok !== s.total) wrongs.push(`${name} joined ${s.ok} of ${s.total}`)
    const expected = SHAPES[workflows.get(s.run_id) ?? '']?.expected[nameOf(s)]
    if (expected !== undefined && JSON.stringify(s.output) !== JSON.stringify(expected))
      wrongs.push(`${name} gave ${JSON.stringify(s.output)} and not ${JSON.stringify(expected)}`)
  }
  const recorded = await readEvents(rig, { runs, steps, wrongs })
  findRepeats(await rig.journal(), recorded, wrongs)
  await checkOutput(rig, wrongs)
  return wrongs
}

/** Checks the events of each run; gives when each step's success was recorded. */
async function readEvents(
  rig: Rig,
  { runs, steps, wrongs }: { runs: RunRow[]; steps: StepRow[]; wrongs: string[] },
): Promise<Map<string, number>> {
  const events = await rig.query<{ run_id: string; seq: number; at: Date; changes: Change[] }>(
    `select run_id, seq, at, changes from event order by run_id, seq`,
  )
  const seqs = new Map<string, number>()
  const ends = new Map<string, string[]>()
  const successAt = new Map<string, number>()
  for (const e of events) {
    const last = seqs.get(e.run_id) ?? 0
    if (e.seq !== last + 1) wrongs.push(`${e.run_id} has event ${e.seq} after ${last}`)
    seqs.set(e.run_id, e.seq)
    for (const change of e.changes) {
      if (!ENDED.has(change.to)) continue
      const key = `${e.run_id} ${change.of}`
      ends.set(key, [...(ends.get(key) ?? []), change.to])
      if (change.to === 'succeeded') successAt.set(key, e.at.getTime())
    }
  }
  for (const r of runs) {
    if (seqs.get(r.id) !== r.event_seq) wrongs.push(`${r.id} counts ${r.event_seq} events and has ${seqs.get(r.id)}`)
    const end = ends.get(`${r.id} run`) ?? []
    if (end.length !== 1) wrongs.push(`${r.id} ended ${end.length} times: ${end.join()}`)
  }
  const recorded = new Map<string, number>()
  for (const s of steps) {
    const key = `${s.run_id} ${nameOf(s)}`
    const end = ends.get(key) ?? []
    if (end.join() !== 'succeeded') wrongs.push(`${key} ended as ${end.join() || 'nothing'} in its events`)
    const at = successAt.get(key)
    if (at !== undefined) recorded.set(idOf(s), at)
  }
  return recorded
}

/** A call whose success is recorded is never made again; a call that is made belongs to a step. */
function findRepeats(journal: readonly Attempt[], recorded: ReadonlyMap<string, number>, wrongs: string[]): void {
  for (const line of journal) {
    const [run = '', node = '', ...path] = line.step.split('.')
    const id = [run, node, ...path.map(Number)].join('.')
    const at = recorded.get(id)
    if (at === undefined) wrongs.push(`${line.step} ran and is no step`)
    else if (line.what === 'start' && line.at > at)
      wrongs.push(`${line.step}@${line.fence} began ${line.at - at} ms after its success was recorded`)
  }
}

/** What each command wrote is there once and in order, under the attempt that counts. */
async function checkOutput(rig: Rig, wrongs: string[]): Promise<void> {
  const logs = await rig.query<{ run_id: string; text: string | null }>(
    `select s.run_id, (select string_agg(l.body, '' order by l.idx) from log_segment l
              where l.run_id = s.run_id and l.node = s.node and l.path = s.path and l.fence = s.fence and l.stream = 'stdout') as text
       from step s join run r on r.id = s.run_id join definition_node n on n.definition = r.definition and n.node = s.node
      where n.name = 'sh'`,
  )
  for (const { run_id, text } of logs)
    if (text !== WHOLE_OUTPUT) wrongs.push(`${run_id} sh wrote ${JSON.stringify(text)}`)
}

export const WHOLE_OUTPUT = Array.from({ length: LINES }, (_, i) => `line ${i + 1}\n`).join('')
