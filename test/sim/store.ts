// The one store of a process's simulations: real SQL on PGlite, its clock turned by hand, every change of a step or run written down by triggers.
import { join } from 'node:path'
import { silentLog } from '../../src/base/index.ts'
import { Failure } from '../../src/domain/failure.ts'
import { type Db, openEmbedded, type Queryable } from '../../src/store/index.ts'

const TABLES = [
  'journal',
  'budget_wake',
  'approval',
  'sent_event',
  'run_deadline',
  'stop_wish',
  'audit, artifact, blob, blob_chunk, exported_env, resource, resource_version, secret_value',
  'server, token, definition, definition_node, queue, run, step, step_output, attempt, event, log_segment',
  'session, idempotency_key, sim_audit',
].join(', ')

/** What a step's or a run's row went through, as the database saw it. `node` is null for runs. */
export interface AuditRow {
  id: number
  run_id: string
  node: number | null
  path: string
  from_state: string | null
  to_state: string
  from_session: string | null
  to_session: string | null
  from_fence: number
  to_fence: number
  /** The session that held the step before was live when this was written. */
  live: boolean
  /** The step was due when this was written. */
  due: boolean
  /** Why the attempt that ended here did not succeed. */
  code: string | null
  output: unknown
}

const AUDIT = [
  `create table if not exists sim_audit (id int generated always as identity, run_id text not null, node int, path text not null,
     from_state text, to_state text not null, from_session text, to_session text, from_fence int not null, to_fence int not null,
     live boolean not null, due boolean not null, code text, output jsonb)`,
  `create or replace function sim_step_moved() returns trigger language plpgsql as $$
   begin
     insert into sim_audit (run_id, node, path, from_state, to_state, from_session, to_session, from_fence, to_fence, live, due, code, output)
     values (new.run_id, new.node, new.path, case when tg_op = 'UPDATE' then old.state end, new.state,
             case when tg_op = 'UPDATE' then old.session end, new.session,
             case when tg_op = 'UPDATE' then old.fence else 0 end, new.fence,
             tg_op = 'UPDATE' and exists (select 1 from session w where w.id = old.session and w.state = 'live'),
             tg_op = 'UPDATE' and coalesce(old.due_at <= clock_now(), false),
             case when tg_op = 'UPDATE' and old.state = 'running' then
               (select a.failure->>'code' from attempt a
                 where a.run_id = old.run_id and a.node = old.node and a.path = old.path and a.fence = old.fence) end,
             case when new.state = 'succeeded' then new.output end);
     return null;
   end $$`,
  `create or replace function sim_run_moved() returns trigger language plpgsql as $$
   begin
     insert into sim_audit (run_id, path, from_state, to_state, from_fence, to_fence, live, due)
     values (new.id, '', old.state, new.state, 0, 0, false, false);
     return null;
   end $$`,
  `create or replace trigger sim_step_made after insert on step for each row execute function sim_step_moved()`,
  `create or replace trigger sim_step_moves after update on step for each row
     when (old.state <> new.state or old.session is distinct from new.session or old.fence <> new.fence) execute function sim_step_moved()`,
  `create or replace trigger sim_run_moves after update on run for each row when (old.state <> new.state) execute function sim_run_moved()`,
]

/** Opened once a process: starting PGlite takes longer than many a seed. */
export class SimStore {
  readonly db: Db
  /** Statements and transactions under way. */
  inFlight = 0
  /** Nothing reaches the store before this time. */
  outageUntil = 0

  private constructor(db: Db) {
    this.db = db
  }

  /** `prepared`: where a fresh database is kept between processes. */
  static async open(prepared = join(import.meta.dirname, '..', '..', '.cache', 'orrery')): Promise<SimStore> {
    const db = await openEmbedded({
      dataDir: null,
      seedDir: prepared,
      version: '0',
      pid: process.pid,
      isAlive: () => null,
      log: silentLog,
    })
    for (const statement of AUDIT) await db.query(statement)
    return new SimStore(db)
  }

  /** As new: empty tables, numbers from 1. */
  async clear(): Promise<void> {
    this.outageUntil = 0
    await this.db.query(`truncate ${TABLES} restart identity`)
  }

  async setClock(now: number): Promise<void> {
    await this.db.query(`select set_config('orrery.now', $1, false)`, [new Date(now).toISOString()])
  }

  /** Everything since the last time, in order. */
  takeAudit(): Promise<AuditRow[]> {
    return this.db.query<AuditRow>(`with taken as (delete from sim_audit returning *) select * from taken order by id`)
  }

  /** Until nothing moves any more but what waits for the clock. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 2; quiet = this.inFlight > 0 ? 0 : quiet + 1)
      await new Promise<void>((resolve) => setImmediate(resolve))
  }

  close(): Promise<void> {
    return this.db.close()
  }
}

const unreachable = (why: string) =>
  new Failure('storage.unreachable', 'asking the database', { evidence: { errorCode: why } })

/** One server's way to the store: dies with it, in the middle of a transaction too, and may lose an answer. */
export class ServerDb implements Db {
  // Several servers share the store, which only PostgreSQL has; it also leaves vacuum, and so the planner's moods, out of the history.
  readonly kind = 'postgres'
  alive = true
  /** Dies when this many more statements have been sent; null never. */
  diesAfter: number | null = null
  readonly #store: SimStore
  readonly #now: () => number
  /** Whether the answer of a statement that was carried out is lost. */
  readonly #losesAnswer: () => boolean

  constructor(store: SimStore, now: () => number, losesAnswer: () => boolean) {
    this.#store = store
    this.#now = now
    this.#losesAnswer = losesAnswer
  }

  #check(): void {
    if (this.diesAfter !== null && this.diesAfter-- <= 0) this.alive = false
    if (!this.alive) throw unreachable('server is dead')
    if (this.#now() < this.#store.outageUntil) throw unreachable('outage')
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    this.#store.inFlight += 1
    try {
      return await work()
    } finally {
      this.#store.inFlight -= 1
    }
  }

  async #carryOut<T>(work: () => Promise<T>): Promise<T> {
    this.#check()
    const result = await this.#counted(work)
    if (!this.alive || this.#losesAnswer()) throw unreachable('answer lost')
    return result
  }

  query<R>(sql: string, params: readonly unknown[] = []): Promise<R[]> {
    return this.#carryOut(() => this.#store.db.query<R>(sql, params))
  }

  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    return this.#carryOut(() =>
      this.#store.db.transaction(async (tx) => {
        const result = await work({
          query: async <R>(sql: string, params: readonly unknown[] = []) => {
            this.#check()
            return tx.query<R>(sql, params)
          },
        })
        this.#check()
        return result
      }),
    )
  }

  listen(): Promise<() => Promise<void>> {
    return Promise.resolve(() => Promise.resolve())
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
