import type { Db, Queryable } from '../../src/store/db.ts'
import { eventually } from '../support/eventually.ts'

/** Brings statements of two connections together at chosen points. */
export interface Meeting {
  /** Waits until so many statements of this database wait for a lock. */
  blocked(count: number): Promise<unknown>
  /** Lets works meet at a run's lock, and go on one after another in this order. */
  inOrder<T>(runId: string, works: (() => Promise<T>)[]): Promise<T[]>
  /** Does `first` in a transaction that stays open until `second` waits for it. */
  whileOpen<A, B>(first: (tx: Queryable) => Promise<A>, second: () => Promise<B>): Promise<[A, B]>
}

export function meetingOf(one: Db, two: Db): Meeting {
  const blocked = (count: number) =>
    eventually(
      async () => {
        const [row] = await two.query<{ n: number }>(
          `select count(*)::int as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        )
        return row?.n === count
      },
      { withinMs: 40_000, what: `${count} waiting statements` },
    )
  return {
    blocked,
    async inOrder<T>(runId: string, works: (() => Promise<T>)[]): Promise<T[]> {
      const under: Promise<T>[] = []
      await one.transaction(async (tx) => {
        await tx.query('select 1 from run where id = $1 for update', [runId])
        for (const work of works) {
          under.push(work())
          await blocked(under.length)
        }
      })
      return Promise.all(under)
    },
    async whileOpen<A, B>(first: (tx: Queryable) => Promise<A>, second: () => Promise<B>): Promise<[A, B]> {
      let under: Promise<B> | null = null
      const a = await one.transaction(async (tx) => {
        const done = await first(tx)
        under = second()
        await blocked(1)
        return done
      })
      if (!under) throw new Error('never begun')
      return [a, await under]
    },
  }
}
