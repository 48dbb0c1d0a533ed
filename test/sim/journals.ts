// What must hold of journals after every tick.
import type { Db } from '../../src/store/index.ts'
import type { StepRow } from './invariants.ts'

interface EntryRow {
  run_id: string
  node: number
  path: string
  seq: number
  fence: number
  n: number | null
  kind: string
  call: string | null
  approval: string | null
}

interface Seen {
  seq: number
  /** As the step stood when it was last looked at. */
  fence: number
  isRunning: boolean
}

const keyOf = (row: { run_id: string; node: number; path: string }): string => `${row.run_id}.${row.node}.${row.path}`

/** Of one call each once; of a decision once for each approval. */
const ONCE = new Set(['model_answered', 'tool_answered', 'decided', 'child_started', 'child_ended'])

/** Reads journals as they grow: gapless, one answer and one run below a call, and nothing of an attempt after the next one has begun. */
export class JournalReader {
  readonly #seen = new Map<string, Seen>()
  readonly #answered = new Set<string>()
  /** Of each activation the fences behind which a journal of its own began. */
  readonly #began = new Map<string, number[]>()
  entries = 0

  async check(db: Db, steps: readonly StepRow[]): Promise<string[]> {
    const rows = await db.query<EntryRow>(
      `select run_id, node, path, seq, fence, n, kind, call, entry->>'approval' as approval from journal order by run_id, node, path, seq`,
    )
    for (const step of steps) {
      const began = this.#began.get(keyOf(step)) ?? [0]
      if (began.at(-1) !== step.journal_from) began.push(step.journal_from)
      this.#began.set(keyOf(step), began)
    }
    const broken = rows.flatMap((row) => this.#take(row))
    for (const step of steps) {
      const seen = this.#seen.get(keyOf(step))
      this.#seen.set(keyOf(step), {
        seq: seen?.seq ?? 0,
        fence: step.fence,
        isRunning: step.state === 'running',
      })
    }
    return [...broken, ...(await checkParked(db))]
  }

  #take(row: EntryRow): string[] {
    const key = keyOf(row)
    const seen = this.#seen.get(key) ?? { seq: 0, fence: 0, isRunning: false }
    if (row.seq <= seen.seq) return []
    this.entries += 1
    const broken: string[] = []
    const what = `entry ${row.seq} (${row.kind} of ${row.call ?? 'nothing'}) of ${key}@${row.fence}`
    if (row.seq !== seen.seq + 1) broken.push(`journal: ${what} comes after ${seen.seq}`)
    const isLive = row.fence > seen.fence || (row.fence === seen.fence && seen.isRunning)
    if (row.n !== null && !isLive) broken.push(`journal: ${what} was written when the step was at ${seen.fence}`)
    if (ONCE.has(row.kind)) broken.push(...this.#answer(key, row, what))
    this.#seen.set(key, { ...seen, seq: row.seq })
    return broken
  }

  /** Once a call, in each journal of the activation: a try that failed begins another. A decision is once for each approval. */
  #answer(key: string, { kind, call, approval, fence }: EntryRow, what: string): string[] {
    const journal = (this.#began.get(key) ?? []).findLast((from) => from < fence) ?? 0
    const name = `${key} ${kind === 'decided' ? approval : `${kind} ${call} ${journal}`}`
    if (this.#answered.has(name)) return [`journal: ${what} is a second answer`]
    this.#answered.add(name)
    return []
  }
}

/** A step that waits for people or for a run below waits for something that is still to come. */
async function checkParked(db: Db): Promise<string[]> {
  const rows = await db.query<{ run_id: string; node: number; path: string; waits: string; waits_on: string }>(
    `select s.run_id, s.node, s.path, s.waits, s.waits_on from step s join queue q on q.id = s.queue_id
      where s.state = 'waiting' and q.requirements->>'backend' = 'agent'
        and (s.waits = 'approval' and not exists (
               select 1 from approval a where a.id = any(string_to_array(s.waits_on, ' ')) and a.state = 'pending')
          or s.waits = 'child' and exists (
               select 1 from unnest(string_to_array(s.waits_on, ' ')) as w(id) left join run r on r.id = w.id and not r.parent_told where r.id is null))`,
  )
  return rows.map((row) => `waits though it could go on: ${keyOf(row)} waits for ${row.waits} ${row.waits_on}`)
}
