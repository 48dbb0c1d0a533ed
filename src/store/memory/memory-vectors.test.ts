import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { migrate } from '../migrate.ts'
import { wrapPglite } from '../db-pglite.ts'
import { memorySuite } from './memory.suite.ts'

memorySuite(
  'memories where the database compares vectors',
  async () => {
    const db = wrapPglite(await PGlite.create({ extensions: { vector } }))
    await db.query('create extension vector')
    await migrate(db, { version: '0' })
    return db
  },
  { vectors: true },
)
