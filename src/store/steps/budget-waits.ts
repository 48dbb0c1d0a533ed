import type { StepKey } from '../../domain/step.ts'
import type { Queryable } from '../db.ts'

/**
 * Lets every step look again that waits for one of these budgets, named as `namespace/name`: a tick puts it back into its queue. To be called in the
 * transaction that gives them more, or after it. Twice is safe. Gives how many wait.
 */
export async function wakeBudgetWaiters(db: Queryable, budgets: readonly string[]): Promise<number> {
  if (budgets.length === 0) return 0
  // First, and in order: who is about to wait holds these rows, and is seen below once they are ours.
  await db.query(
    `insert into budget_wake (budget, at) select b, clock_now() from unnest($1::text[]) as b order by b
     on conflict (budget) do update set at = excluded.at`,
    [[...new Set(budgets)]],
    { name: 'wake_budgets' },
  )
  const rows = await db.query(
    `with waiting as (
       select run_id, node, path from step
        where waits not in ('backoff', 'children', 'timer', 'event', 'approval', 'child')
          and state = 'waiting' and string_to_array(waits_on, ' ') && $1::text[]
        order by run_id, node, path for update)
     update step s set due_at = clock_now() from waiting w
      where s.run_id = w.run_id and s.node = w.node and s.path = w.path and s.state = 'waiting'
     returning 1 as one`,
    [budgets],
    { name: 'wake_budget_waiters' },
  )
  return rows.length
}

/** How many steps wait for each budget, by `namespace/name`. */
export async function countBudgetWaiters(db: Queryable): Promise<Map<string, number>> {
  const rows = await db.query<{ budget: string; count: number }>(
    `select b.budget, count(*)::int as count from step s cross join lateral unnest(string_to_array(s.waits_on, ' ')) as b(budget)
      where s.waits not in ('backoff', 'children', 'timer', 'event', 'approval', 'child') and s.state = 'waiting'
      group by b.budget`,
    [],
    { name: 'count_budget_waiters' },
  )
  return new Map(rows.map((row) => [row.budget, row.count]))
}

/** Whether one of these budgets has let go of those who wait since the step was leased. Holds them, so that the step may begin to wait. */
export async function areBudgetsWoken(
  tx: Queryable,
  { runId, node, path, budgets }: StepKey & { runId: string; budgets: readonly string[] },
): Promise<boolean> {
  const names = [...new Set(budgets)].sort()
  for (;;) {
    await tx.query(
      `insert into budget_wake (budget, at) select b, '-infinity' from unnest($1::text[]) as b on conflict (budget) do nothing`,
      [names],
      { name: 'put_budget_wakes' },
    )
    const rows = await tx.query<{ since: boolean }>(
      `select b.at >= s.leased_at as since from budget_wake b
         join step s on s.run_id = $2 and s.node = $3 and s.path = $4
        where b.budget = any($1::text[]) order by b.budget for share of b`,
      [names, runId, node, path],
      { name: 'are_budgets_woken' },
    )
    // One that was forgotten between the two is not held: it is made anew.
    if (rows.length === names.length) return rows.some((r) => r.since)
  }
}

/** Forgets when budgets let go so long ago that no attempt runs any more which was leased before, at most `limit` a call. Gives how many. */
export async function pruneBudgetWakes(db: Queryable, keepMs: number, limit: number): Promise<number> {
  const rows = await db.query(
    `delete from budget_wake where budget in (
       select budget from budget_wake
        where at < least((select clock_now()), (select min(leased_at) from step where state = 'running')) - $1::float8 * interval '1 ms'
        limit $2 for update skip locked)
     returning 1 as one`,
    [keepMs, limit],
  )
  return rows.length
}
