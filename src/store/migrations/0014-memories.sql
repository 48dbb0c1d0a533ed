-- breaking: no
-- What agents remember: entries of memories, each of one run, one agent or shared.

-- Whose entries there are and how much of them; its row is the lock of whoever writes.
create table memory_scope (
  namespace text collate "C" not null,
  memory text collate "C" not null,
  -- `shared`, `agent/<name>` or `run/<id>`.
  scope text collate "C" not null,
  -- Of a scope `run/<id>`: the run with whose end they go.
  run_id text collate "C",
  entries int not null,
  bytes bigint not null,
  primary key (namespace, memory, scope)
);

create index memory_scope_run on memory_scope (run_id) where run_id is not null;

create table memory_entry (
  namespace text collate "C" not null,
  memory text collate "C" not null,
  scope text collate "C" not null,
  key text collate "C" not null,
  body text not null,
  metadata jsonb not null,
  -- Of key, body and metadata: what the limits of the memory count.
  bytes int not null,
  -- Of length one, so that the product of two is how near they are; null where the memory has no embedding.
  embedding real[],
  -- What made it: vectors of different makers cannot be compared.
  embedded_by text collate "C",
  -- The words of key and body, as they are in every language alike.
  words tsvector not null generated always as (
    to_tsvector('simple'::regconfig, translate(key, '/._:-', '     ') || ' ' || body)) stored,
  -- Who wrote it last: an agent or a token.
  written_by text not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  expires_at timestamptz,
  primary key (namespace, memory, scope, key)
);
-- Numbers do not get smaller by packing.
alter table memory_entry alter column embedding set storage external;

create index memory_entry_words on memory_entry using gin (words);
create index memory_entry_expiry on memory_entry (expires_at) where expires_at is not null;

-- Writes of agents that were done: the same call again is answered as it was.
create table memory_call (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  call text collate "C" not null,
  result jsonb not null,
  made_at timestamptz not null,
  primary key (run_id, node, path, call)
);

create index memory_call_made on memory_call (made_at);
