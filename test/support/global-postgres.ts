// One cluster a test run; tests that kill one start their own. Its address goes to the tests in the environment; without PostgreSQL there is none, and they are skipped.
import { findPostgres, startPostgres } from './postgres.ts'

const VARIABLE = 'ORRERY_TEST_POSTGRES_DSN'

export default async function globalPostgres(): Promise<() => Promise<void>> {
  const isGiven = process.env[VARIABLE] !== undefined
  const found = findPostgres()
  if (isGiven || found.kind === 'missing') {
    if (!isGiven && found.kind === 'missing') process.stderr.write(`${found.reason}\n`)
    return async () => {}
  }
  const cluster = await startPostgres({ isDurable: false })
  process.env[VARIABLE] = cluster.dsn()
  return async () => {
    Reflect.deleteProperty(process.env, VARIABLE)
    await cluster.stop()
  }
}
