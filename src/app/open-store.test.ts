import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { silentLog, systemClock } from '../base/index.ts'
import { placeOfDsn } from '../store/index.ts'
import { openStore } from './open-store.ts'

test('a store whose tables were changed by hand is refused with the directory that it is in', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'orrery-store-'))
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }))
  const open = () => openStore({ store: { kind: 'embedded' }, dataDir, env: {}, clock: systemClock, log: silentLog })
  const db = await open()
  await db.query('drop index session_live')
  await db.close()
  await expect(open()).rejects.toMatchObject({
    code: 'storage.schema_drift',
    evidence: { directory: dataDir, missing: [expect.stringContaining('index session_live')] },
    remediation: expect.stringContaining('bring back'),
  })
})

test.for<[dsn: string, place: string]>([
  ['postgres://orrery:s3cret@db.example:6432/runs?sslmode=require&password=s3cret', 'db.example:6432/runs'],
  ['postgres://orrery:s3cret@db.example/runs', 'db.example:5432/runs'],
  ['postgres://orrery:s3cret@[::1]:5432/runs', '[::1]:5432/runs'],
  ['postgres:///runs?host=/var/run/postgresql&password=s3cret', '/var/run/postgresql:5432/runs'],
  ['nonsense', ''],
])('%s leads to %s, and nothing secret is in that', ([dsn, place]) => {
  expect(placeOfDsn(dsn)).toBe(place)
})
