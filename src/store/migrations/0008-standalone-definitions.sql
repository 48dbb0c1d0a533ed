-- breaking: no
-- False of a definition that is known only as a version of a workflow: a step that names a workflow reaches it by the workflow's lifecycle alone.
alter table definition add column standalone boolean not null default true;

drop index definition_by_name;
create index definition_by_name on definition (namespace, name, created_at) where standalone;
-- Those of today that are versions are no more than that.
update definition d set standalone = false where exists (select 1 from resource_version v where v.definition = d.hash);
