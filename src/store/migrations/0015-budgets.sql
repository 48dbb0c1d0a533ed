-- breaking: no
-- What calls of models took, and the counters that budgets are kept by.

-- One row for each call that was answered. Only added to: what is deleted elsewhere changes nothing here.
create table spending (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  -- Which journal of the activation: another one once the step is tried anew after a failure.
  generation int not null,
  call text collate "C" not null,
  namespace text collate "C" not null,
  -- The run at the top, the workflows from it down to this run, and the labels of both: budgets of a workflow count what runs below it take.
  root_run text collate "C" not null,
  workflows text[] not null,
  labels jsonb not null,
  agent text collate "C" not null,
  endpoint text collate "C" not null,
  model text not null,
  -- What came from a cache or went to one is part of the input.
  input_tokens bigint not null,
  output_tokens bigint not null,
  cached_input_tokens bigint not null,
  cache_write_tokens bigint not null,
  -- Billionths of the currency; null: the price is not known.
  nanos bigint,
  currency text,
  at timestamptz not null,
  -- The transaction that wrote it: counters have taken in all below a mark.
  xid xid8 not null default pg_current_xact_id(),
  primary key (run_id, node, path, generation, call)
) partition by range (run_id);
create table spending_default partition of spending default;
create index spending_by_order on spending (namespace, xid);
-- The time first: what is looked for by its order has a namespace too, and must not find this one.
create index spending_by_time on spending (at, namespace);
create index spending_by_run on spending (root_run, xid);

-- What is set aside for calls that are not answered yet.
create table spending_hold (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  call text collate "C" not null,
  namespace text collate "C" not null,
  root_run text collate "C" not null,
  workflows text[] not null,
  labels jsonb not null,
  agent text collate "C" not null,
  endpoint text collate "C" not null,
  tokens bigint not null,
  nanos bigint,
  currency text,
  expires_at timestamptz not null,
  primary key (run_id, node, path, call)
) with (autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_threshold = 500);
create index spending_hold_by_namespace on spending_hold (namespace);
create index spending_hold_expiry on spending_hold (expires_at);

-- How much of a window of a budget is spent, as far as the mark; its lock orders those who set aside.
create table budget_counter (
  budget text collate "C" not null,
  -- Which window, and of which selector: another one is counted anew from what was spent.
  key text collate "C" not null,
  -- Everything of transactions below it is counted.
  mark xid8 not null default '0',
  -- Where the window began when it was counted: a rolling one has let go what is before. Null: from the beginning of the run.
  tail timestamptz,
  tokens bigint not null default 0,
  nanos bigint not null default 0,
  touched_at timestamptz not null,
  primary key (budget, key)
) with (fillfactor = 50);
create index budget_counter_age on budget_counter (touched_at);

-- Shares of a budget that were told of in a window.
create table budget_alert (
  budget text collate "C" not null,
  key text collate "C" not null,
  share float8 not null,
  at timestamptz not null,
  primary key (budget, key, share)
);

create function budget_covers(selector jsonb, workflows text[], agent text, endpoint text, labels jsonb) returns boolean
language sql immutable parallel safe as
$$ select (selector->'workflows' is null or selector->'workflows' ?| workflows)
      and (selector->'agents' is null or selector->'agents' ? agent)
      and (selector->'endpoints' is null or selector->'endpoints' ? endpoint)
      and (selector->'labels' is null or labels @> (selector->'labels')) $$;
