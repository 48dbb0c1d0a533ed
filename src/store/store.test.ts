import { expect, test } from 'vitest'
import { silentLog } from '../base/log.ts'
import { openEmbedded } from './embedded.ts'
import { storeSuite } from './store.suite.ts'

const open = () =>
  openEmbedded({ dataDir: null, seedDir: null, version: '0', pid: process.pid, isAlive: () => null, log: silentLog })

storeSuite('the store on PGlite', open)

test('the outer handle is refused inside a transaction, where it would wait for ever', async () => {
  const db = await open()
  try {
    await expect(db.transaction(() => db.query('select 1'))).rejects.toThrow('outer handle')
    await expect(db.transaction(() => db.transaction(() => Promise.resolve()))).rejects.toThrow('inside a transaction')
    expect(await db.query('select 1 as one')).toEqual([{ one: 1 }])
  } finally {
    await db.close()
  }
})
