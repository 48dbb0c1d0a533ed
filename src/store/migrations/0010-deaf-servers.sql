-- breaking: no
-- Since when a server does not hear the wake-ups of the others; null while it does.
alter table server add column deaf_since timestamptz;
