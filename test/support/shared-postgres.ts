import { afterAll, beforeAll, describe } from 'vitest'
import { createDatabase, findPostgres, type Postgres, startPostgres } from './postgres.ts'
import { storeTemplate } from './store-template.ts'

/** Databases for the tests of one file, in the run's cluster, or in one of the file's own when the run has none. */
export interface SharedPostgres {
  /** Address of the cluster's own database. */
  dsn(): string
  /** Makes an empty database and gives its address. */
  createDatabase(): Promise<string>
  /** Makes a database that has been migrated, for tests that do not look at how it came to be, and gives its address. */
  createStore(): Promise<string>
}

/** `describe` for what needs PostgreSQL: skipped, by name, where it is not installed. */
export function describeWithPostgres(name: string, body: (postgres: SharedPostgres) => void): void {
  const given = process.env['ORRERY_TEST_POSTGRES_DSN']
  const canRun = given !== undefined || findPostgres().kind === 'found'
  describe.skipIf(!canRun)(canRun ? name : `${name} (needs PostgreSQL)`, () => {
    let own: Postgres | null = null
    let made = 0
    let template: Promise<string> | null = null
    const freshName = () => `f${process.pid}_${Date.now().toString(36)}_${++made}`
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
    body({
      dsn,
      createDatabase: () => createDatabase(dsn(), freshName()),
      createStore: async () => {
        const from = await (template ??= storeTemplate(dsn()))
        return createDatabase(dsn(), freshName(), { template: from })
      },
    })
  })
}
