import pg from 'pg'

/** 26 characters that sort before every id made today: what is loaded is old. */
const idSql = (prefix: string) => `'run_00' || '${prefix}' || lpad(n::text, ${24 - prefix.length}, '0')`

/** A million runs of one step that ended long ago, written straight into the tables as the engine would have left them. */
export async function loadFinishedRuns(dsn: string, definition: string, count: number): Promise<void> {
  await withClient(dsn, async (client) => {
    await client.query(
      `insert into run (id, namespace, workflow, definition, state, open, active, total, event_seq, inputs, labels, created_at, started_at, ended_at, moved_at)
       select ${idSql('0')}, 'default', 'history', $1, 'succeeded', 0, 0, 1, 2, '{}', '{}', now() - interval '9 days', now() - interval '9 days', now() - interval '9 days', now() - interval '9 days'
         from generate_series(1, $2::int) n`,
      [definition, count],
    )
    await client.query(
      `insert into step (run_id, node, state, queue_id, fence, session, queued_at, leased_at, started_at, ended_at, output)
       select ${idSql('0')}, 0, 'succeeded', 1, 1, 'ses_00000000000000000000000000', now(), now(), now(), now(), 'null' from generate_series(1, $1::int) n`,
      [count],
    )
    await client.query(
      `insert into event (run_id, seq, at, changes)
       select ${idSql('0')}, s, now(), '[{"of":"run","to":"pending"}]' from generate_series(1, $1::int) n, generate_series(1, 2) s`,
      [count],
    )
    await client.query('vacuum analyze')
    // What is loaded in a minute came over months: the database is not writing it out any more.
    await client.query('checkpoint')
  })
}

/** Steps queued where no worker looks, of runs that live. */
export async function loadQueued(dsn: string, definition: string, queueId: number, count: number): Promise<void> {
  await withClient(dsn, async (client) => {
    await client.query(
      `insert into run (id, namespace, workflow, definition, state, open, active, total, inputs, labels, created_at, moved_at)
       select ${idSql('1')}, 'default', 'queued', $1, 'pending', 1, 1, 1, '{}', '{}', now(), now() from generate_series(1, $2::int) n`,
      [definition, count],
    )
    await client.query(
      `insert into step (run_id, node, state, queue_id, queued_at) select ${idSql('1')}, 0, 'queued', $1, now() from generate_series(1, $2::int) n`,
      [queueId, count],
    )
    await client.query(
      `insert into event (run_id, seq, at, changes) select ${idSql('1')}, 1, now(), '[{"of":"run","to":"pending"}]' from generate_series(1, $1::int) n`,
      [count],
    )
    await client.query('checkpoint')
  })
}

/** Holds a snapshot open, so that nothing that dies from now on can be cleaned. Gives the way to end it. */
export async function holdTransaction(dsn: string): Promise<() => Promise<void>> {
  const client = new pg.Client({ connectionString: dsn })
  await client.connect()
  await client.query('begin isolation level repeatable read')
  await client.query('select count(*) from queue')
  return async () => {
    await client.query('rollback')
    await client.end()
  }
}

/** Commits and statements of a database so far: what `idle` is measured by. */
export async function transactionCount(dsn: string): Promise<number> {
  let count = 0
  await withClient(dsn, async (client) => {
    const rows = await client.query<{ n: string }>(
      `select xact_commit + xact_rollback as n from pg_stat_database where datname = current_database()`,
    )
    count = Number(rows.rows[0]?.n ?? 0)
  })
  return count
}

/** Bytes that a cluster has written into its log so far: what of a piece of work would outlive a crash. */
export async function walBytes(dsn: string): Promise<number> {
  let bytes = 0
  await withClient(dsn, async (client) => {
    const rows = await client.query<{ n: string }>(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as n`)
    bytes = Number(rows.rows[0]?.n ?? 0)
  })
  return bytes
}

/** What the database does for itself would be counted as well. For a cluster that only counts statements. */
export async function switchOffAutovacuum(dsn: string): Promise<void> {
  await withClient(dsn, async (client) => {
    await client.query('alter system set autovacuum = off')
    await client.query('select pg_reload_conf()')
  })
}

async function withClient(dsn: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: dsn })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}
