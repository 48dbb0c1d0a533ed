-- What runs wait for beside workers: approvals, events sent to them, their own time, runs below them.

create type approval_state as enum ('pending', 'approved', 'denied', 'expired', 'canceled');

-- A decision that a person owes. One for each try of a step, so that repair is an insert that may conflict.
create table approval (
  id text collate "C" primary key,
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  fence int not null,
  -- The step's name with indices.
  step text not null,
  namespace text collate "C" not null,
  workflow text not null,
  message text not null,
  -- Names of tokens or roles; null lets anybody decide who may decide approvals.
  approvers text[],
  -- JSON Schema of what is given along with the approval.
  fields jsonb,
  -- What counts when nobody decides in time.
  on_expiry text not null check (on_expiry in ('approve', 'deny')),
  state approval_state not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  decided_at timestamptz,
  decided_by text,
  comment text,
  given jsonb,
  unique (run_id, node, path, fence)
);

create index approval_pending on approval (namespace, id) where state = 'pending';

-- Events that were sent to runs. Each is kept until one step takes it.
create table sent_event (
  run_id text collate "C" not null,
  id text collate "C" not null,
  name text collate "C" not null,
  -- Given by the sender: the same key is the same event.
  key text collate "C",
  payload jsonb not null,
  sent_at timestamptz not null,
  sent_by text not null,
  -- The step that took it.
  node int,
  path text collate "C",
  primary key (run_id, id)
);

create unique index sent_event_key on sent_event (run_id, key) where key is not null;

-- Runs that have to end by a time.
create table run_deadline (
  run_id text collate "C" primary key,
  due_at timestamptz not null
);

create index run_deadline_due on run_deadline (due_at);

-- Runs below that nobody waits for any more and that are still to be stopped.
create table stop_wish (
  run_id text collate "C" primary key,
  asked_at timestamptz not null
);

create index definition_by_name on definition (namespace, name, created_at);
