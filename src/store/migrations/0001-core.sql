-- breaking: yes
-- The core: definitions, runs, steps, attempts, events, logs, worker sessions, tokens.
-- Text keys use collation "C": ids sort by time, and comparing bytes is what that needs.

-- The database's clock alone decides leases and due times. A test turns it with `orrery.now`. Stable, so that an index can be used.
create function clock_now() returns timestamptz language sql stable parallel safe as
$$ select coalesce(nullif(current_setting('orrery.now', true), '')::timestamptz, statement_timestamp()) $$;

-- Enums and not checks on text: a check is parsed anew by each statement that writes, which cost the hot path a twelfth.
create type run_state as enum ('pending', 'running', 'succeeded', 'failed', 'canceled');
create type run_stop as enum ('cancel', 'fail_fast', 'timeout');
create type step_state as enum ('pending', 'queued', 'running', 'waiting', 'succeeded', 'failed', 'skipped', 'blocked', 'canceled');
create type step_waits as enum ('backoff', 'children', 'timer', 'event', 'approval', 'child');
create type attempt_state as enum ('failed', 'lost', 'parked', 'canceled');
create type log_stream as enum ('stdout', 'stderr', 'system');

create table server (
  id text collate "C" primary key,
  version text not null,
  address text,
  started_at timestamptz not null,
  seen_at timestamptz not null
);

create table token (
  id text collate "C" primary key,
  name text not null,
  -- SHA-256 of the token, in hex. The token itself is shown once and kept nowhere.
  hash text collate "C" not null unique,
  role text not null check (role in ('admin', 'worker')),
  namespaces text[],
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz
);

-- Content-addressed: a run holds the hash of what it was started with.
create table definition (
  hash text collate "C" primary key,
  namespace text not null,
  name text not null,
  body jsonb not null,
  created_at timestamptz not null
);

-- What statements over many runs have to know of a node, without reading the body.
create table definition_node (
  definition text collate "C" not null,
  node int not null,
  name text not null,
  queue_id int not null,
  -- Number of needs, and how many of them have to end well.
  total int not null,
  need int not null,
  -- Has to be looked at by the pure function before it may run.
  decided boolean not null,
  uses_inputs boolean not null,
  timeout_ms int,
  queue_timeout_ms int,
  primary key (definition, node)
);

-- One queue for each set of requirements.
create table queue (
  id int generated always as identity primary key,
  key text collate "C" not null unique,
  requirements jsonb not null
);

create table run (
  id text collate "C" primary key,
  namespace text collate "C" not null,
  workflow text not null,
  definition text collate "C" not null,
  -- `waiting` is derived: not ended, started, and active = 0.
  state run_state not null,
  -- Why the run is being stopped: by a person, by failFast, or because its time is over.
  stop run_stop,
  epoch int not null default 1,
  -- Steps that have not ended; steps queued or running; steps that failed or are blocked; all steps.
  open int not null,
  active int not null,
  bad int not null default 0,
  total int not null,
  event_seq int not null default 1,
  inputs jsonb not null,
  labels jsonb not null,
  failure jsonb,
  cancel_requested_at timestamptz,
  -- Of a run below another: the step that waits for it, which of its tries, how deep, and whether it was told how the run ended.
  parent_run text collate "C",
  parent_node int,
  parent_path text collate "C",
  parent_fence int,
  depth int not null default 0,
  parent_told boolean not null default false,
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz,
  moved_at timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

create index run_by_namespace on run (namespace, id);
create index run_live on run (id) where ended_at is null;
create index run_child_ended on run (id) where parent_run is not null and ended_at is not null and not parent_told;
create index run_child on run (parent_run, id) where parent_run is not null;

create table step (
  run_id text collate "C" not null,
  node int not null,
  -- Indices of a forEach activation, five digits each, joined by dots; empty for the step itself.
  path text collate "C" not null default '',
  state step_state not null,
  queue_id int not null,
  -- The join: needed, ended well, ended badly, all. A forEach uses them for its activations once it has spread.
  need int not null default 0,
  ok int not null default 0,
  bad int not null default 0,
  total int not null default 0,
  -- Attempts, failures, losses.
  fence int not null default 0,
  tries int not null default 0,
  losses int not null default 0,
  session text collate "C",
  -- It runs and nobody needs it any more: its worker has to be told.
  stopping boolean not null default false,
  waits step_waits,
  -- The name of the event, or the id of the approval or of the run below, that it waits for.
  waits_on text collate "C",
  -- Activations of a forEach that were let into the queue.
  released int not null default 0,
  -- When the engine owes this step a look: a decision, the end of a back-off, a deadline.
  due_at timestamptz,
  queued_at timestamptz,
  leased_at timestamptz,
  started_at timestamptz,
  ended_at timestamptz,
  item jsonb,
  output jsonb,
  -- The output is in step_output.
  output_large boolean not null default false,
  failure jsonb,
  primary key (run_id, node, path)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

create index step_queued on step (queue_id, run_id, node, path) where state = 'queued';
create index step_running on step (session) where state = 'running';
create index step_parked on step (run_id, waits_on) where waits in ('event', 'approval');
create index step_due on step (due_at) where due_at is not null;

create table step_output (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  body jsonb not null,
  primary key (run_id, node, path)
);

-- Attempts that ended otherwise than well. The one that succeeded, or that runs now, is told by the step's own row.
create table attempt (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  fence int not null,
  state attempt_state not null,
  session text collate "C",
  leased_at timestamptz,
  started_at timestamptz,
  ended_at timestamptz not null,
  failure jsonb,
  primary key (run_id, node, path, fence)
);

-- One row per batch of transitions, gapless per run.
create table event (
  run_id text collate "C" not null,
  seq int not null,
  at timestamptz not null,
  -- json, not jsonb: written once, read whole.
  changes json not null,
  primary key (run_id, seq)
) partition by range (run_id);
create table event_default partition of event default;

create table log_segment (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  fence int not null,
  idx int not null,
  stream log_stream not null,
  at timestamptz not null,
  -- When it was recorded; the cursor of those who follow.
  recorded_at timestamptz not null,
  body text not null,
  primary key (run_id, node, path, fence, idx)
) partition by range (run_id);
create table log_segment_default partition of log_segment default;

-- A worker's session: the lease is its one row, renewed for all of a server's workers by one statement.
create table session (
  id text collate "C" primary key,
  worker text not null,
  token_id text not null,
  host text not null,
  pid int not null,
  pid_start text,
  version text not null,
  capacity int not null,
  labels jsonb not null,
  namespaces text[],
  backends text[] not null,
  modules text[] not null,
  draining boolean not null default false,
  held int not null default 0,
  clock_skew_ms int not null default 0,
  state text not null check (state in ('live', 'ended')),
  started_at timestamptz not null,
  seen_at timestamptz not null,
  expires_at timestamptz not null,
  ended_at timestamptz,
  ended_code text
) with (fillfactor = 50);

create index session_live on session (id) where state = 'live';

create table idempotency_key (
  scope text collate "C" not null,
  key text collate "C" not null,
  fingerprint text collate "C" not null,
  run_id text collate "C" not null,
  created_at timestamptz not null,
  primary key (scope, key)
);
