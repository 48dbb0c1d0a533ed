-- breaking: yes
-- Servers set aside by a count made before, as long as nobody has counted since: one that does not leave word that it counted would go unnoticed.

-- The last count of the window that was made under its lock.
alter table budget_counter add column count_id uuid not null default gen_random_uuid();

-- Nobody knows that all of it was set aside before: a count made before may not include it.
alter table spending add column is_uncovered boolean not null default false;
create index spending_uncovered on spending (namespace, xid) where is_uncovered;

-- Forgotten by their age.
create index budget_alert_age on budget_alert (at);
