-- breaking: no
-- Files that steps leave: their bytes once per namespace, by content, and who left them under which name.

create table blob (
  namespace text collate "C" not null,
  -- SHA-256 of the content, in hex.
  sha256 text collate "C" not null,
  bytes bigint not null,
  -- Set when all of it is there and its checksum was found right.
  verified_at timestamptz,
  created_at timestamptz not null,
  primary key (namespace, sha256)
);

create table blob_chunk (
  namespace text collate "C" not null,
  sha256 text collate "C" not null,
  idx int not null,
  body bytea not null,
  primary key (namespace, sha256, idx)
);
-- What is uploaded is packed as often as not; trying again costs more than it saves.
alter table blob_chunk alter column body set storage external;

create table artifact (
  run_id text collate "C" not null,
  node int not null,
  path text collate "C" not null,
  -- Relative path in the workspace, with forward slashes.
  name text collate "C" not null,
  fence int not null,
  namespace text collate "C" not null,
  sha256 text collate "C" not null,
  bytes bigint not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (run_id, node, path, name)
);

create index artifact_by_content on artifact (namespace, sha256);
create index artifact_expiry on artifact (expires_at);
