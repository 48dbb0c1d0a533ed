import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ensureFirstAdmin, ensureToken } from '../../src/app/tokens.ts'
import { createIds, systemClock, systemRandom } from '../../src/base/index.ts'
import { findToken, revokeToken } from '../../src/store/tokens/tokens.ts'
import { openMigrated } from '../../src/store/testing/postgres.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const parts = { given: undefined, ids: createIds(systemClock, systemRandom), random: systemRandom }

describeWithPostgres('the first administrator', (postgres) => {
  const open = async () => {
    const db = await openMigrated(await postgres.createDatabase())
    const dir = mkdtempSync(join(tmpdir(), 'orrery-admin-'))
    onTestFinished(async () => {
      await db.close()
      rmSync(dir, { recursive: true, force: true })
    })
    return { db, dir }
  }

  test('is made once, however many servers start together, and kept where its owner alone reads it', async () => {
    const { db, dir } = await open()
    const files = Array.from({ length: 5 }, (_, i) => join(dir, String(i), 'admin.token'))
    const made = await Promise.all(files.map((file) => ensureFirstAdmin(db, { ...parts, file })))
    expect(made.filter(Boolean)).toHaveLength(1)
    const file = files[made.indexOf(true)] ?? ''
    expect(files.filter((f) => existsSync(f))).toEqual([file])
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const token = readFileSync(file, 'utf8').trim()
    expect(await findToken(db, token)).toMatchObject({ role: 'admin', organisation: '*', reach: null })
    // Its server goes on with it when it starts again.
    expect(await ensureFirstAdmin(db, { ...parts, file })).toBe(true)
    expect((await ensureToken(db, { ...parts, file, name: 'admin', role: 'admin' })).reveal()).toBe(token)
  })

  test('whose token ended is replaced in its file; one that was given is refused by the name of its variable', async () => {
    const { db, dir } = await open()
    const file = join(dir, 'admin.token')
    writeFileSync(file, 'orr_kept\n')
    const admin = { ...parts, file, name: 'admin', role: 'admin' as const }
    await ensureToken(db, admin)
    await revokeToken(db, (await findToken(db, 'orr_kept'))?.id ?? '')
    await expect(ensureToken(db, { ...admin, given: 'orr_kept' })).rejects.toMatchObject({
      code: 'config.value_unsupported',
      evidence: { variable: 'ORRERY_ADMIN_TOKEN' },
    })
    const fresh = await ensureToken(db, admin)
    expect(fresh.reveal()).not.toBe('orr_kept')
    expect(await findToken(db, fresh.reveal())).toMatchObject({ role: 'admin' })
  })
})
