import { silentLog } from '../../src/base/log.ts'
import { openPostgres } from '../../src/store/db-postgres.ts'
import { migrationsSuite } from '../../src/store/migrations.suite.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

describeWithPostgres('PostgreSQL', (postgres) => {
  migrationsSuite('migrations on PostgreSQL', async () => {
    const dsn = await postgres.createDatabase()
    return () => openPostgres({ dsn, connections: 2, log: silentLog })
  })
})
