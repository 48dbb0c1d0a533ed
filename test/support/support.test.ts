import { afterAll, describe, expect, test } from 'vitest'
import { Client } from 'pg'
import { silentLog } from '../../src/base/index.ts'
import { migrate, openPostgres } from '../../src/store/index.ts'
import { eventually } from './eventually.ts'
import { findPostgres, startPostgres } from './postgres.ts'
import { expectNoProcessLeft, liveProcesses, startNode } from './processes.ts'
import { describeWithPostgres } from './shared-postgres.ts'

async function query(dsn: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: dsn })
  client.on('error', () => {}) // the server is killed under it on purpose
  await client.connect()
  try {
    return (await client.query(sql)).rows as Record<string, unknown>[]
  } finally {
    await client.end()
  }
}

describe('eventually', () => {
  test('gives the first true value', async () => {
    let looks = 0
    expect(await eventually(() => (++looks >= 3 ? looks : null), { withinMs: 40_000 })).toBe(3)
  })

  test('names what did not come, and shows the last error', async () => {
    const waiting = eventually(() => Promise.reject(new Error('refused')), { withinMs: 30, what: 'the server' })
    await expect(waiting).rejects.toMatchObject({
      message: 'the server did not come within 30 ms',
      cause: { message: 'refused' },
    })
  })
})

describe.skipIf(findPostgres().kind === 'missing')('a private PostgreSQL cluster', () => {
  test('keeps what was committed when it is killed, and can be started again', async () => {
    const postgres = await startPostgres()
    try {
      const dsn = await postgres.createDatabase('kept')
      await query(dsn, 'create table t (n int); insert into t values (7)')
      expect(await query(dsn, 'show fsync')).toEqual([{ fsync: 'on' }])
      await postgres.kill9()
      await expect(query(dsn, 'select 1')).rejects.toThrow()
      await postgres.restart()
      expect(await query(dsn, 'select n from t')).toEqual([{ n: 7 }])
      await postgres.restart()
      expect(await query(dsn, 'select n from t')).toEqual([{ n: 7 }])
    } finally {
      await postgres.stop()
    }
    await expect(query(postgres.dsn(), 'select 1')).rejects.toThrow()
  })
})

describeWithPostgres('a shared PostgreSQL', (postgres) => {
  test('gives each caller an empty database of its own', async () => {
    const [a, b] = [await postgres.createDatabase(), await postgres.createDatabase()]
    await query(a, 'create table only_here ()')
    expect(await query(b, `select to_regclass('only_here') as t`)).toEqual([{ t: null }])
  })

  test('gives migrated databases, also to two callers at once, that know nothing of each other', async () => {
    const [a, b] = await Promise.all([postgres.createStore(), postgres.createStore()])
    const db = openPostgres({ dsn: a, connections: 1, log: silentLog })
    try {
      expect(await migrate(db, { version: '0' })).toEqual({ applied: [] })
    } finally {
      await db.close()
    }
    await query(a, `delete from migration`)
    expect(await query(b, `select count(*)::int > 0 as migrated from migration`)).toEqual([{ migrated: true }])
  })
})

describe('processes', () => {
  afterAll(() => expectNoProcessLeft())

  test('a killed process is seen to end by the signal, with its output', async () => {
    const child = startNode(['-e', 'console.log("ready on", 42); setInterval(() => {}, 1000)'])
    const match = await child.waitFor(/ready on (\d+)/, { withinMs: 40_000 })
    expect(match[1]).toBe('42')
    expect(liveProcesses()).toHaveLength(1)
    await child.kill9()
    expect(await child.ended).toEqual({ code: null, signal: 'SIGKILL' })
  })

  test('waiting for output ends at once when the process does', async () => {
    const child = startNode(['-e', 'console.error("no such thing"); process.exit(3)'])
    await expect(child.waitFor(/never/, { withinMs: 40_000 })).rejects.toThrow('no such thing')
    expect(await child.ended).toEqual({ code: 3, signal: null })
  })

  test('a grandchild that outlives its parent is found, ended and reported', async () => {
    const parent = startNode([
      '-e',
      `require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' }).unref()`,
    ])
    await parent.ended
    await expect(expectNoProcessLeft({ withinMs: 50 })).rejects.toThrow('processes were left behind')
    await expectNoProcessLeft()
  })
})
