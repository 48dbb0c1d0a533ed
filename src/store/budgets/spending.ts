import type { CostGroup } from '../../domain/prices.ts'
import type { Queryable } from '../db.ts'
import type { Origin } from './origins.ts'

/** Which call: of an activation, in one of its journals. */
export interface SpendingKey {
  runId: string
  node: number
  path: string
  /** Which journal of the activation: another number once the step is tried anew after a failure. */
  generation: number
  call: string
}

/** What one call took. */
export interface SpendingRow extends SpendingKey {
  origin: Origin
  agent: string
  endpoint: string
  model: string
  tokens: { input: number; output: number; cachedInput: number; cacheWrite: number }
  /** Null: the price is not known. */
  cost: { nanos: number; currency: string } | null
  /** It is not known that all of it was set aside for the call: counts made before may not include it. */
  isUncovered: boolean
}

/** What a call took, without what names it and who asked. */
export type SpendingDraft = Omit<SpendingRow, keyof SpendingKey | 'agent'>

/** Drafts by column: namespace, root_run, workflows and labels as JSON, endpoint, model, the four counts of tokens, nanos, currency, is_uncovered. */
export const draftColumns = (drafts: readonly SpendingDraft[]): unknown[][] => [
  drafts.map((d) => d.origin.namespace),
  drafts.map((d) => d.origin.rootRun),
  drafts.map((d) => JSON.stringify(d.origin.workflows)),
  drafts.map((d) => JSON.stringify(d.origin.labels)),
  drafts.map((d) => d.endpoint),
  drafts.map((d) => d.model),
  drafts.map((d) => d.tokens.input),
  drafts.map((d) => d.tokens.output),
  drafts.map((d) => d.tokens.cachedInput),
  drafts.map((d) => d.tokens.cacheWrite),
  drafts.map((d) => d.cost?.nanos ?? null),
  drafts.map((d) => d.cost?.currency ?? null),
  drafts.map((d) => d.isUncovered),
]

/** Writes down what calls took. The same call of the same journal is written once. Gives the rows that were written. */
export async function recordSpending<R extends SpendingRow>(tx: Queryable, rows: readonly R[]): Promise<R[]> {
  if (rows.length === 0) return []
  const written = await tx.query<SpendingKey>(
    `insert into spending (run_id, node, path, generation, call, namespace, root_run, workflows, labels, agent, endpoint, model,
                           input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, nanos, currency, is_uncovered, at)
     select s.run_id, s.node, s.path, s.generation, s.call, s.namespace, s.root_run, array(select jsonb_array_elements_text(s.workflows)), s.labels, s.agent,
            s.endpoint, s.model, s.input, s.output, s.cached, s.written, s.nanos, s.currency, s.is_uncovered, (select clock_now())
       from unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::jsonb[], $11::text[],
                   $12::text[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::text[], $19::boolean[])
         as s(run_id, node, path, generation, call, agent, namespace, root_run, workflows, labels, endpoint, model, input, output, cached, written, nanos, currency, is_uncovered)
     on conflict do nothing returning run_id as "runId", node, path, generation, call`,
    [
      rows.map((r) => r.runId),
      rows.map((r) => r.node),
      rows.map((r) => r.path),
      rows.map((r) => r.generation),
      rows.map((r) => r.call),
      rows.map((r) => r.agent),
      ...draftColumns(rows),
    ],
    { name: 'record_spending' },
  )
  const fresh = new Set(written.map(keyOf))
  // One that is named twice was written once.
  return rows.filter((row) => fresh.delete(keyOf(row)))
}

const keyOf = ({ runId, node, path, generation, call }: SpendingKey): string =>
  `${runId} ${node} ${path} ${generation} ${call}`

/** Forgets what was spent longer ago than `keepMs`, at most `limit` rows a call, beside others who do. Gives how many. */
export async function pruneSpending(db: Queryable, keepMs: number, limit: number): Promise<number> {
  const rows = await db.query(
    `delete from spending s using (
       select run_id, node, path, generation, call from spending
        where at < (select clock_now()) - $1::float8 * interval '1 ms' limit $2 for update skip locked) old
      where s.run_id = old.run_id and s.node = old.node and s.path = old.path and s.generation = old.generation and s.call = old.call
      returning s.call`,
    [keepMs, limit],
  )
  return rows.length
}

const GROUP_BY: Record<CostGroup, string> = {
  agent: 'agent',
  // What runs below a run take is the cost of the workflow at the top.
  workflow: 'workflows[1]',
  namespace: 'namespace',
  model: 'model',
  endpoint: 'endpoint',
  run: 'root_run',
}

export interface CostSum {
  namespace: string
  of: string
  calls: number
  inputTokens: number
  outputTokens: number
  cachedInputTokens: number
  /** Calls whose price is not known. */
  unpriced: number
  money: { currency: string; nanos: number }[]
}

/** Sums of what was spent in a time, by namespace and group, those with the most tokens first. `namespaces` is a reach. */
export async function sumCosts(
  db: Queryable,
  asked: { by: CostGroup; namespaces: readonly string[] | null; since: Date | null; until: Date | null; limit: number },
): Promise<CostSum[]> {
  return db.query<CostSum>(
    `select namespace, of, sum(calls)::int as calls, sum(input)::bigint as "inputTokens", sum(output)::bigint as "outputTokens",
            sum(cached)::bigint as "cachedInputTokens", coalesce(sum(calls) filter (where currency is null), 0)::int as unpriced,
            coalesce(jsonb_agg(jsonb_build_object('currency', currency, 'nanos', nanos) order by currency) filter (where currency is not null), '[]') as money
       from (select namespace, ${GROUP_BY[asked.by]} as of, currency, count(*) as calls, sum(input_tokens) as input, sum(output_tokens) as output,
                    sum(cached_input_tokens) as cached, sum(nanos) as nanos
               from spending
              where in_reach(namespace, $1::text[]) and ($2::timestamptz is null or at >= $2) and ($3::timestamptz is null or at < $3)
              group by 1, 2, 3) each
      group by namespace, of order by sum(input) + sum(output) desc, namespace, of limit $4`,
    [asked.namespaces, asked.since, asked.until, asked.limit],
  )
}
