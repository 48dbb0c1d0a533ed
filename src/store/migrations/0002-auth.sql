-- breaking: yes
-- Who may do what, and who did. Breaking: an older server would take every token that is no worker's for an administrator's.

alter table token drop constraint token_role_check;
alter table token add constraint token_role_check check (role in ('viewer', 'operator', 'admin', 'worker'));
-- The organisation whose namespaces the token may see; '*' is all of them. `namespaces` are plain names within it.
alter table token add column organisation text collate "C" not null default '*';
-- Id of the token that made this one; null when the server made it for itself.
alter table token add column created_by text collate "C";
-- Written at most once a minute, behind the requests that it tells of.
alter table token add column last_used_at timestamptz;

-- Id of the token that started the run: the audit log tells of new runs from here, so that a run costs no second row.
alter table run add column created_by text collate "C";

-- Whether a stored namespace lies within what somebody may see. Plain namespaces belong to the organisation `default`.
create function in_reach(namespace text, reach text[]) returns boolean language sql immutable parallel safe as
$$ select reach is null or namespace = any(reach)
       or (case when position('/' in namespace) > 0 then split_part(namespace, '/', 1) else 'default' end || '/*') = any(reach) $$;

-- One row for each change, each refusal and each use of a secret. Never edited, and never a secret in it.
create table audit (
  id text collate "C" primary key,
  at timestamptz not null,
  -- Id of the token that asked.
  actor text collate "C" not null,
  role text not null,
  organisation text collate "C" not null,
  -- As stored; null when it was about a whole organisation.
  namespace text collate "C",
  -- Resource and verb: `runs.cancel`.
  action text not null,
  -- Id or name of what was changed.
  object text,
  outcome text not null check (outcome in ('done', 'denied')),
  -- Where the request came from; null when it came from the same process.
  address text,
  request_id text,
  details jsonb
);
