-- Resources: what people declare. One table for all kinds; a feed of what changed; the numbered specs of workflows.

-- One row. Whoever writes resources holds its lock to the end of the transaction, so that versions become visible in their order:
-- a watcher that has seen one has missed none before it.
create table resource_clock (
  one boolean primary key default true check (one),
  version bigint not null,
  -- Highest version of a deletion that is forgotten: a watch that begins before it cannot go on.
  pruned bigint not null
);
insert into resource_clock (version, pruned) values (0, 0);

create table resource (
  kind text collate "C" not null,
  namespace text collate "C" not null,
  name text collate "C" not null,
  uid text collate "C" not null,
  -- Rises with the spec.
  generation int not null,
  -- Rises with every write, of one clock for all resources.
  resource_version bigint not null,
  -- The version that made it; for those who watch, a change later than where they began.
  first_version bigint not null,
  labels jsonb not null,
  annotations jsonb not null,
  -- As it was written, in its order; of a sealed kind without any value in the clear.
  spec json not null,
  status jsonb not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  -- A tombstone, kept for a while for those who watch; its spec is empty.
  deleted_at timestamptz,
  primary key (kind, namespace, name)
);
create unique index resource_feed on resource (resource_version);
create index resource_labels on resource using gin (labels jsonb_path_ops) where deleted_at is null;
create index resource_tombstone on resource (deleted_at) where deleted_at is not null;

-- Each spec that a workflow had. Goes with the workflow; runs hold the hash of their definition.
create table resource_version (
  uid text collate "C" not null,
  version int not null,
  definition text collate "C" not null,
  lifecycle text not null,
  spec json not null,
  created_at timestamptz not null,
  created_by text not null,
  primary key (uid, version)
);
