import type { Db } from './db.ts'

/** One object of the schema as the catalogue tells it: `kind name: definition`. Sorted; equal schemas give equal lists. */
export async function describeSchema(db: Db): Promise<string[]> {
  const rows = await db.query<{ line: string }>(
    `select 'column ' || c.table_name || '.' || c.column_name || ': ' || c.data_type || case when c.is_nullable = 'NO' then ' not null' else '' end
            || coalesce(' default ' || c.column_default, '') as line
       from information_schema.columns c join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
      where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and t.table_name !~ '^(event|log_segment)_'
     union all
     select 'index ' || indexname || ': ' || regexp_replace(indexdef, ' USING btree', '') from pg_indexes
      where schemaname = 'public' and tablename !~ '^(event|log_segment)_'
     union all
     select 'check ' || conname || ': ' || pg_get_constraintdef(c.oid) from pg_constraint c join pg_class r on r.oid = c.conrelid
       join pg_namespace n on n.oid = r.relnamespace where n.nspname = 'public' and c.contype = 'c' and r.relname !~ '^(event|log_segment)_'
     union all
     select 'function ' || p.proname || ': ' || p.provolatile::text || ' ' || coalesce(p.prosrc, '') from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'public'`,
  )
  return rows.map((r) => r.line.replace(/\s+/g, ' ').trim()).sort()
}

/** What the live schema lacks, and what it has that no migration made. */
export function compareSchemas(
  expected: readonly string[],
  live: readonly string[],
): { missing: string[]; extra: string[] } {
  const want = new Set(expected)
  const have = new Set(live)
  return { missing: expected.filter((l) => !have.has(l)), extra: live.filter((l) => !want.has(l)) }
}
