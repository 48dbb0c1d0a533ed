-- breaking: no
-- Every vacuum reads the indexes of a table whole. A fiftieth of a table that holds a million finished runs is reached once a minute by a busy engine, and
-- half a core goes into the same reading again and again; a fifth, as PostgreSQL has it by default, is reached a tenth as often. Rows that die on a page are
-- pruned by the next write to it: the free space of the pages (fillfactor) is what they live in meanwhile.
alter table run set (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2);
alter table step set (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2);

-- While somebody holds an old snapshot, dead entries of indexes stay: what is asked every second must not walk over them.
-- A session that ended holds something until its steps were taken back; `emptied` says that nobody needs to look any more.
alter table session add column emptied boolean not null default false;
create index session_unemptied on session (id) where state = 'ended' and not emptied;
-- What is being stopped, which is little, instead of what runs.
create index run_stopping on run (id) where stop is not null and ended_at is null;
create index step_stopping on step (session) where stopping and state = 'running';
