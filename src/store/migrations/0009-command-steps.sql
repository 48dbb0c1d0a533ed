-- breaking: no
-- What a worker knows of beyond what every release does; a step that uses such a thing is given to nobody else.
alter table session add column features text[] not null default '{}';

-- Variables that a step hands on to the commands behind it. Never a secret.
create table exported_env (
  run_id text collate "C" not null,
  node int not null,
  fence int not null,
  env jsonb not null,
  created_at timestamptz not null,
  primary key (run_id, node)
);
