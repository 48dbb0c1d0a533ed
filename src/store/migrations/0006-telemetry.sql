-- breaking: no
-- The W3C traceparent that a run's request came with; null when its trace is its own, which is made of the run id's bits.
alter table run add column trace text collate "C";
