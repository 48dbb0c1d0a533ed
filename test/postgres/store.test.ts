import { artifactSuite } from '../../src/store/artifacts/artifacts.suite.ts'
import { journalSuite } from '../../src/store/journal/journal.suite.ts'
import { storeSuite } from '../../src/store/store.suite.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

describeWithPostgres('PostgreSQL', (postgres) => {
  storeSuite('the store on PostgreSQL', async () => openMigrated(await postgres.createStore()))
  journalSuite('journals on PostgreSQL', async () => openMigrated(await postgres.createStore()))
  artifactSuite('artifacts on PostgreSQL', async () => openMigrated(await postgres.createStore()))
})
