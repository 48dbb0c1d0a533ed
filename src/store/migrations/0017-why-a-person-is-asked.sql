-- breaking: no
-- Which rule has a call of a tool wait for a person, and why; null of calls that were asked about before, and of other approvals.
alter table approval add column rule text, add column reason text;
