-- breaking: yes
-- The journal of agents: what an attempt wrote down before it acted on it, and what the server added. It belongs to the activation.
-- Not used here by name: a new value of an enum counts once its transaction is over.
alter type step_waits add value if not exists 'budget';

create table journal (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  -- Gapless per activation, from 1.
  seq int not null,
  -- The attempt that wrote it, and which of its appends it came with; null: the server's own, under the last attempt before it.
  fence int not null,
  n int,
  at timestamptz not null,
  kind text collate "C" not null,
  call text collate "C",
  -- json, not jsonb: written once, read whole.
  entry json not null,
  primary key (run_id, node, path, seq)
) partition by range (run_id);
create table journal_default partition of journal default;

-- Entries of attempts up to this fence count no more: the step was tried anew after a failure, or by hand.
alter table step add column journal_from int not null default 0;

-- Steps that wait for a budget: the one way of waiting that is none of these.
create index step_budget on step (run_id) where waits not in ('backoff', 'children', 'timer', 'event', 'approval', 'child');

-- When a budget last let go of those who wait for it. Whoever begins to wait holds the row, so that no change falls between.
create table budget_wake (
  budget text collate "C" primary key,
  at timestamptz not null
);

-- Approvals of calls of tools: what is asked, and what the person changed or knew.
alter table approval drop constraint approval_run_id_node_path_fence_key;
alter table approval
  add column about text check (about in ('call', 'outcome')),
  add column call text collate "C",
  add column agent text,
  add column tool text,
  add column operation text,
  add column input jsonb,
  add column edited jsonb,
  add column output jsonb;
create unique index approval_of_step on approval (run_id, node, path, fence, coalesce(call, ''), coalesce(about, ''));
