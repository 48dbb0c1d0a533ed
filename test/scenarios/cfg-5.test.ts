import { Client } from 'pg'
import { expect, test } from 'vitest'
import { placeOfDsn } from '../../src/store/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeDir, refused, startUp } from './rig.ts'

async function sql<T>(dsn: string, ...statements: string[]): Promise<T[]> {
  const client = new Client({ connectionString: dsn })
  await client.connect()
  try {
    let rows: T[] = []
    for (const statement of statements) rows = (await client.query(statement)).rows as T[] // as the statement selects
    return rows
  } finally {
    await client.end()
  }
}

const upOn = (dsn: string) => [
  'up',
  '--store',
  'postgres',
  '--postgres-dsn',
  dsn,
  '--port',
  '0',
  '--data-dir',
  makeDir(),
]
const goodUp = (dsn: string) => startUp(['--store', 'postgres', '--postgres-dsn', dsn, '--no-worker'])

describeWithPostgres('CFG-5: the schema does not fit this build', (postgres) => {
  test('migrated by a newer Orrery: refused, naming the version that can, and nothing is written', async () => {
    const dsn = await postgres.createDatabase()
    await (await goodUp(dsn)).process.stop()
    const newer = `insert into migration (number, name, breaking, checksum, version) values (9000, '9000-future', true, 'x', '9.9.9')`
    await sql(dsn, newer, 'delete from token', 'delete from server')

    const { exit, failure } = await refused(upOn(dsn))
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'storage.schema_newer',
      evidence: { migration: '9000-future', appliedBy: '9.9.9' },
      remediation: expect.stringContaining('Orrery 9.9.9 or newer'),
    })
    expect(await sql(dsn, 'select id from token union all select id from server')).toEqual([])

    // One that does not break older builds is no reason to refuse.
    await sql(dsn, 'update migration set breaking = false where number = 9000')
    const up = await goodUp(dsn)
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
  })

  test('a migration fails: the statement and the cause are shown, nothing of it is kept; mended, the server starts', async () => {
    const dsn = await postgres.createDatabase()
    await sql(dsn, 'create table run (mine int)')
    const { exit, failure } = await refused(upOn(dsn))
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'storage.migration_failed',
      message: expect.stringContaining('0001-core'),
      evidence: { statement: expect.stringContaining('create table run') },
      cause: { message: 'relation "run" already exists' },
    })
    const tables = await sql<{ name: string }>(
      dsn,
      `select table_name as name from information_schema.tables where table_schema = 'public' order by 1`,
    )
    expect(tables.map((t) => t.name)).toEqual(['migration', 'run'])
    expect(await sql(dsn, 'select number from migration')).toEqual([])

    await sql(dsn, 'drop table run')
    const up = await goodUp(dsn)
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
  })

  test('a migration was applied with another text: refused, naming it', async () => {
    const dsn = await postgres.createDatabase()
    await (await goodUp(dsn)).process.stop()
    const [before] = await sql<{ checksum: string }>(dsn, 'select checksum from migration where number = 1')
    await sql(dsn, `update migration set checksum = 'edited' where number = 1`)
    const { exit, failure } = await refused(upOn(dsn))
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'storage.schema_drift',
      evidence: { migration: '0001-core', database: placeOfDsn(dsn) },
      remediation: expect.stringContaining('0001-core'),
    })
    await sql(dsn, `update migration set checksum = '${before?.checksum}' where number = 1`)
    const up = await goodUp(dsn)
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
  })
})
