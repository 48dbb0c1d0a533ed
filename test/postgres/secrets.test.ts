import { expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../../src/base/index.ts'
import type { Caller } from '../../src/engine/index.ts'
import { Secrets } from '../../src/engine/secrets.ts'
import { NO_SOURCES } from '../../src/engine/secret-sources.ts'
import { type Db, KeyRing, migrate, openPostgres, SealingKey } from '../../src/store/index.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const ADMIN: Caller = { actor: 'tok_admin', role: 'admin', organisation: '*', namespaces: null, requestId: 'req' }

describeWithPostgres('secrets on PostgreSQL', (postgres) => {
  test('several servers that rotate at once encrypt each value once, while others set them', async () => {
    const dsn = await postgres.createDatabase()
    const [old, fresh] = [SealingKey.generate().reveal(), SealingKey.generate().reveal()]
    const server = async (keys: string): Promise<{ db: Db; secrets: Secrets }> => {
      const db = openPostgres({ dsn, connections: 4, log: silentLog })
      onTestFinished(() => db.close())
      const ring = new KeyRing({ name: 'test', read: () => Promise.resolve(keys), prepend: null })
      return { db, secrets: new Secrets(db, { ring, sources: NO_SOURCES, remember: () => {} }) }
    }
    const first = await server(old)
    await migrate(first.db, { version: '0' })
    const put = (by: Secrets, secret: string, value: string) =>
      by.put(
        ADMIN,
        { namespace: 'default', secret },
        {
          values: Object.fromEntries(Array.from({ length: 100 }, (_, k) => [`k${k}`, `${value}-${k}`])),
          replace: false,
        },
      )
    for (let i = 0; i < 9; i++) await put(first.secrets, `s${i}`, 'old')

    const rotating = await Promise.all([
      server(`${fresh},${old}`),
      server(`${fresh},${old}`),
      server(`${fresh},${old}`),
    ])
    const rotate = async ({ secrets }: { secrets: Secrets }): Promise<number> => {
      for (let resealed = 0; ;) {
        const answer = await secrets.rotate(ADMIN, { newKey: false })
        resealed += answer.resealed
        if (answer.remaining === 0) return resealed
      }
    }
    const [, ...resealed] = await Promise.all([
      put(rotating[0].secrets, 's3', 'set-meanwhile'),
      ...rotating.map((one) => rotate(one)),
    ])
    const total = resealed.reduce((sum, n) => sum + n, 0)
    expect(total).toBeGreaterThanOrEqual(800)
    expect(total).toBeLessThanOrEqual(900)

    const last = await server(fresh)
    const wanted = Array.from({ length: 9 }, (_, i) =>
      Array.from({ length: 100 }, (__, k) => ({
        namespace: 'default',
        secret: `s${i}`,
        key: `k${k}`,
        attempted: 'test',
      })),
    ).flat()
    const values = await last.secrets.resolver.resolve(wanted)
    expect(values).toEqual(
      wanted.map(({ secret, key }) => `${secret === 's3' ? 'set-meanwhile' : 'old'}-${key.slice(1)}`),
    )
  })
})
