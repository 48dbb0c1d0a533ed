import { afterAll, beforeAll, describe } from 'vitest'
import { createDatabase, findPostgres, type Postgres, startPostgres } from './postgres.ts'

/** Databases for the tests of one file, in the run's cluster, or in one of the file's own when the run has none. */
export interface SharedPostgres {
  /** Address of the cluster's own database. */
  dsn(): string
  /** Makes an empty database and gives its address. */
  createDatabase(): Promise<string>
}

/** `describe` for what needs PostgreSQL: skipped, by name, where it is not installed. */
export function describeWithPostgres(name: string, body: (postgres: SharedPostgres) => void): void {
  const given = process.env['ORRERY_TEST_POSTGRES_DSN']
  const canRun = given !== undefined || findPostgres().kind === 'found'
  describe.skipIf(!canRun)(canRun ? name : `${name} (needs PostgreSQL)`, () => {
    let own: Postgres | null = null
    let made = 0
    const dsn = (): string => {
      const address = own?.dsn() ?? given
      if (address === undefined) throw new Error('PostgreSQL is there from beforeAll on, not earlier')
      return address
    }
    if (given === undefined) {
      beforeAll(async () => {
        own = await startPostgres()
      })
      afterAll(async () => {
        await own?.stop()
      })
    }
    body({ dsn, createDatabase: () => createDatabase(dsn(), `f${process.pid}_${Date.now().toString(36)}_${++made}`) })
  })
}
