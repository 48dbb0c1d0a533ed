-- breaking: no
-- Every vacuum reads the indexes of a table whole. A fiftieth of a table that holds a million finished runs is reached once a minute by a busy engine, and
-- half a core goes into the same reading again and again; a fifth, as PostgreSQL has it by default, is reached a tenth as often. Rows that die on a page are
-- pruned by the next write to it: the free space of the pages (fillfactor) is what they live in meanwhile.
alter table run set (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2);
alter table step set (autovacuum_vacuum_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.2);
