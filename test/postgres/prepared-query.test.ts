import { afterAll, beforeAll, expect, test } from 'vitest'
import { silentLog } from '../../src/base/index.ts'
import { type Db, openPostgres } from '../../src/store/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

describeWithPostgres('a prepared statement', (postgres) => {
  let db: Db
  beforeAll(async () => {
    // One connection: every call meets what the former ones left there.
    db = openPostgres({ dsn: await postgres.createDatabase(), connections: 1, log: silentLog })
    await db.query('create table thing (id int primary key, tags text[])')
  })
  afterAll(() => db.close())

  const texts = ['', 'plain', 'NULL', 'a "quoted" one', 'back\\slash', '{curly, comma}', 'ünï→😀', 'two\nlines', null]

  test.each(['first', 'second'])('carries texts, numbers, booleans, nulls and times, the %s time too', async () => {
    const at = new Date('2026-01-02T03:04:05.678Z')
    const rows = await db.query(
      `select $1::text[] as texts, $2::int[] as numbers, $3::boolean[] as flags, $4::timestamptz as at, $5::text as none, $6::float8 as half,
              $7::text::jsonb as json, 9007199254740991::int8 as big`,
      [texts, [1, -2, null], [true, false, null], at, null, 0.5, '{"a":[1]}'],
      { name: 'carry' },
    )
    expect(rows).toEqual([
      {
        ...{ texts, numbers: [1, -2, null], flags: [true, false, null], at, none: null, half: 0.5 },
        ...{ json: { a: [1] }, big: 9_007_199_254_740_991 },
      },
    ])
  })

  test('that gives no rows gives none, each time', async () => {
    const insert = (id: number) =>
      db.query('insert into thing (id, tags) values ($1, $2)', [id, ['x']], { name: 'insert' })
    expect(await insert(1)).toEqual([])
    expect(await insert(2)).toEqual([])
    expect(await db.query('select id, tags from thing order by id')).toEqual([
      { id: 1, tags: ['x'] },
      { id: 2, tags: ['x'] },
    ])
  })

  test('that failed works when it is called again', async () => {
    const insert = (id: number | string) =>
      db.query('insert into thing (id) values ($1) returning id', [id], { name: 'insert_again' })
    await expect(insert('no number')).rejects.toMatchObject({ code: '22P02' })
    expect(await insert(11)).toEqual([{ id: 11 }])
    await expect(insert(11)).rejects.toMatchObject({ code: '23505' })
    expect(await insert(12)).toEqual([{ id: 12 }])
  })

  test('that cannot be parsed says so each time', async () => {
    const broken = () => db.query('select nothing_there', [], { name: 'broken' })
    await expect(broken()).rejects.toMatchObject({ code: '42703' })
    await expect(broken()).rejects.toMatchObject({ code: '42703' })
  })

  test('fails with its transaction, and the next transaction begins anew', async () => {
    const read = { name: 'read_thing' }
    await expect(
      db.transaction(async (tx) => {
        await tx.query('select id from thing where id = $1', [1], read)
        await tx.query('select 1 / 0', [], { name: 'divide' })
      }),
    ).rejects.toMatchObject({ code: '22012' })
    const rows = await db.transaction((tx) => tx.query('select id from thing where id = $1', [1], read))
    expect(rows).toEqual([{ id: 1 }])
  })

  test('whose connection is cut fails as unreachable, and the next call gets a new connection', async () => {
    const cut = db.query('select pg_terminate_backend(pg_backend_pid())', [], { name: 'cut' })
    await expect(cut).rejects.toMatchObject({ code: 'storage.unreachable' })
    expect(await db.query('select $1::int as n', [7], { name: 'after' })).toEqual([{ n: 7 }])
  })

  test('refuses a parameter that has no text form', async () => {
    await expect(db.query('select $1::jsonb', [{ a: 1 }], { name: 'object' })).rejects.toThrow(/passed as JSON text/)
  })
})
