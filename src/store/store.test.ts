import fc from 'fast-check'
import { expect, test } from 'vitest'
import { deferred } from '../base/deferred.ts'
import { storeSuite } from './store.suite.ts'
import { openInMemory } from './testing/embedded.ts'

storeSuite('the store on PGlite', openInMemory)

test('the outer handle is refused inside a transaction, where it would wait for ever', async () => {
  const db = await openInMemory()
  try {
    await expect(db.transaction(() => db.query('select 1'))).rejects.toThrow('outer handle')
    await expect(db.transaction(() => db.transaction(() => Promise.resolve()))).rejects.toThrow('inside a transaction')
    expect(await db.query('select 1 as one')).toEqual([{ one: 1 }])
  } finally {
    await db.close()
  }
})

test('a named statement may be used for the first time by several at once, in and out of a transaction', async () => {
  const db = await openInMemory()
  const ask = (on: Pick<typeof db, 'query'>, name: string) => on.query('select $1::int as n', [1], { name })
  try {
    await Promise.all([ask(db, 'twice'), ask(db, 'twice')])
    await db.transaction((tx) => Promise.all([ask(tx, 'inside'), ask(tx, 'inside')]))
    // The one outside stands in line until the transaction, which uses it first, is over.
    const begun = deferred<void>()
    const transaction = db.transaction(async (tx) => {
      await tx.query('select 1')
      begun.resolve()
      await tx.query('select 2')
      return ask(tx, 'later')
    })
    await begun.promise
    const outside = ask(db, 'later')
    await transaction
    expect(await outside).toEqual([{ n: 1 }])
  } finally {
    await db.close()
  }
})

test('a parameter of a named statement is what was given, whatever is in it, and ends nothing', async () => {
  const db = await openInMemory()
  try {
    await db.query('create table kept (n int)')
    const said = async (text: string) =>
      (await db.query<{ text: string }>('select $1::text as text', [text], { name: 'said' }))[0]?.text
    const parts = fc.constantFrom(
      "'",
      "''",
      '\\',
      "\\'",
      ';',
      '--',
      '/*',
      '$$',
      '$1',
      '\n',
      '"',
      "');drop table kept;--",
      'ü😀',
    )
    for (const setting of ['on', 'off']) {
      await db.query(`set standard_conforming_strings = ${setting}`)
      await fc.assert(
        fc.asyncProperty(fc.array(fc.oneof(parts, fc.string()), { maxLength: 8 }), async (given) => {
          const text = given.join('').replaceAll('\0', '')
          expect(await said(text)).toBe(text)
        }),
        { numRuns: 200 },
      )
    }
    expect(await db.query('select * from kept')).toEqual([])
  } finally {
    await db.close()
  }
})
