import { createHash } from 'node:crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { type FailureOptions, Failure } from '../domain/failure.ts'
import { silentLog } from '../base/log.ts'
import type { Db } from './db.ts'
import { checkSchema } from './drift.ts'
import { type Migration, migrate, readMigrations, splitStatements } from './migrate.ts'

/** `open` gives connections to one empty database; more than one where the store can. */
export function migrationsSuite(name: string, open: () => Promise<() => Db>): void {
  describe(name, () => {
    const opened: Db[] = []
    const openMore = async () => {
      const connect = await open()
      return () => {
        const db = connect()
        if (!opened.includes(db)) opened.push(db)
        return db
      }
    }
    afterEach(async () => {
      for (const db of opened.splice(0)) await db.close()
    })

    const migration = (number: number, sql: string, options: { breaking?: boolean } = {}): Migration => ({
      number,
      name: `${String(number).padStart(4, '0')}-test`,
      breaking: options.breaking ?? false,
      sql,
      checksum: createHash('sha256').update(sql).digest('hex'),
    })
    const one = migration(1, 'create table one (id int primary key);', { breaking: true })
    const two = migration(2, 'create table two (id int primary key);')
    const apply = (db: Db, migrations: Migration[], version = '1') => migrate(db, { version, migrations })
    const tables = async (db: Db) =>
      (
        await db.query<{ name: string }>(
          `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`,
        )
      ).map((r) => r.name)
    const codeOf = async (work: Promise<unknown>): Promise<Pick<Failure, 'code'> & FailureOptions> => {
      const error: unknown = await work.then(
        () => null,
        (e: unknown) => e,
      )
      if (!(error instanceof Failure)) throw new Error(`no failure, but ${String(error)}`)
      return error as Pick<Failure, 'code'> & FailureOptions
    }

    test('each is applied once, in order', async () => {
      const db = (await openMore())()
      expect(await apply(db, [one, two])).toEqual({ applied: ['0001-test', '0002-test'] })
      expect(await apply(db, [one, two])).toEqual({ applied: [] })
      expect(await tables(db)).toEqual(['migration', 'one', 'two'])
    })

    test('two servers that start at once apply each once, and both go on', async () => {
      const connect = await openMore()
      const results = await Promise.all([apply(connect(), [one, two]), apply(connect(), [one, two])])
      expect(results.flatMap((r) => r.applied).sort()).toEqual(['0001-test', '0002-test'])
    })

    test('one that fails leaves nothing of itself and names the statement', async () => {
      const db = (await openMore())()
      const broken = migration(2, 'create table two (id int);\ninsert into two values (1);\nselect nonsense;')
      expect(await codeOf(apply(db, [one, broken]))).toMatchObject({
        code: 'storage.migration_failed',
        evidence: { statement: 'select nonsense;' },
      })
      expect(await tables(db)).toEqual(['migration', 'one'])
      // Mended, it is applied.
      expect(await apply(db, [one, two])).toEqual({ applied: ['0002-test'] })
    })

    test('one whose text was changed after it was applied is refused', async () => {
      const db = (await openMore())()
      await apply(db, [one])
      const edited = migration(1, 'create table one (id bigint primary key);', { breaking: true })
      expect(await codeOf(apply(db, [edited]))).toMatchObject({
        code: 'storage.schema_drift',
        evidence: { migration: '0001-test', appliedBy: '1' },
      })
    })

    test('a breaking one of a newer build is refused by an older one, which writes nothing', async () => {
      const db = (await openMore())()
      const breaking = migration(2, 'create table two (id int);', { breaking: true })
      await apply(db, [one, breaking], '2')
      const before = await db.query('select * from migration order by number')
      expect(await codeOf(apply(db, [one], '1'))).toMatchObject({
        code: 'storage.schema_newer',
        evidence: { migration: '0002-test', appliedBy: '2', known: 1 },
      })
      expect(await db.query('select * from migration order by number')).toEqual(before)
    })

    test('a newer one that does not break leaves an older build running', async () => {
      const db = (await openMore())()
      await apply(db, [one, two], '2')
      expect(await apply(db, [one], '1')).toEqual({ applied: [] })
    })

    test('a build that does not know what features steps want of workers is refused', async () => {
      const db = (await openMore())()
      const ours = await readMigrations()
      await apply(db, ours)
      for (const known of [8, 10])
        expect(await codeOf(apply(db, ours.slice(0, known)))).toMatchObject({
          code: 'storage.schema_newer',
          evidence: { migration: '0011-features-count', known },
        })
    })

    test('one that comes after a later breaking one is refused', async () => {
      const db = (await openMore())()
      await apply(db, [one, migration(3, 'create table three (id int);', { breaking: true })])
      expect(await codeOf(apply(db, [one, two]))).toMatchObject({
        code: 'storage.migration_failed',
        evidence: { later: '0003-test' },
      })
      expect(await tables(db)).toEqual(['migration', 'one', 'three'])
    })

    test('a schema that a newer build changed without breaking is only noted', async () => {
      const db = (await openMore())()
      const ours = await readMigrations()
      const next = Math.max(...ours.map((m) => m.number)) + 1
      await apply(db, [...ours, migration(next, 'alter table run alter column workflow drop not null;')])
      const noted: unknown[] = []
      await checkSchema(db, { ...silentLog, info: (_: string, fields?: unknown) => void noted.push(fields) })
      expect(noted).toEqual([{ migrations: [`${String(next).padStart(4, '0')}-test`] }])
    })

    test('statements are told apart, with bodies and comments whole', () => {
      const sql = `-- first; second\ncreate table a (id int);\ncreate function f() returns int language sql as\n$$ select 1; $$;\nselect 2`
      expect(splitStatements(sql)).toEqual([
        'create table a (id int);',
        'create function f() returns int language sql as\n$$ select 1; $$;',
        'select 2',
      ])
    })
  })
}
