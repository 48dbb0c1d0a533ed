/**
 * Plans are pinned: with fresh or churning statistics the planner may fall for sequential scans of tables that are about to be
 * large, and one such plan costs more than every index lookup saved. The engine's statements are all index lookups.
 */
export const PINNED_PLANS = [
  'plan_cache_mode=force_generic_plan',
  'enable_seqscan=off',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
  'jit=off',
  // A row looked at and thrown away costs: also on a table that is still small a key lookup must win over a scan of an index.
  'random_page_cost=1.1',
  'cpu_tuple_cost=0.5',
  'cpu_index_tuple_cost=0.25',
  'cpu_operator_cost=0.1',
]
