import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { LabelTerm } from '../../domain/kinds/selector.ts'
import { matchesTerms } from '../../domain/kinds/selector.ts'
import type { Db } from '../db.ts'
import { deleteResources, putResources, type ResourceWrite } from './put-resources.ts'
import { findResources, listChanges, listNames, listResources } from './read-resources.ts'
import { advanceResourceClock, lockResourceClock, pruneTombstones, readResourceClock } from './resource-clock.ts'
import type { ResourceRef } from './resource-rows.ts'
import { deleteVersions, findPublished, findVersion, listVersions, putVersions } from './resource-versions.ts'

const HOUR_MS = 3_600_000

/** What every store must do with resources. `open` gives an empty, migrated one. */
export function resourceSuite(name: string, open: () => Promise<Db>): void {
  describe(name, () => {
    let db: Db
    beforeAll(async () => {
      db = await open()
    })
    afterAll(() => db.close())
    beforeEach(async () => {
      await db.query(`truncate resource, resource_version`)
      await db.query(`update resource_clock set version = 0, pruned = 0`)
    })

    const ref = (name: string, namespace = 'default'): ResourceRef => ({ kind: 'Workflow', namespace, name })
    const write = (name: string, version: number, more: Partial<ResourceWrite> = {}): ResourceWrite => ({
      ...ref(name),
      uid: `res_${name}`,
      generation: 1,
      resource_version: version,
      first_version: version,
      labels: {},
      annotations: {},
      spec: { z: 1, a: [{ deep: true }] },
      status: { phase: 'active' },
      replaces: 0,
      ...more,
    })
    const filter = { kind: 'Workflow', namespaces: null, name: null }
    const page = { after: null, limit: 50 }

    test('writes what nobody wrote before, and over what was read; not over what somebody else wrote', async () => {
      expect(await putResources(db, [write('a', 1), write('b', 2)])).toHaveLength(2)
      expect(await putResources(db, [write('a', 3, { replaces: 1, generation: 2 })])).toHaveLength(1)
      expect(await putResources(db, [write('a', 4, { replaces: 1 }), write('b', 5, { replaces: 2 })])).toMatchObject([
        { name: 'b' },
      ])
      const [a] = await findResources(db, [ref('a'), ref('none')])
      expect(a).toMatchObject({ resource_version: 3, generation: 2, created_at: expect.any(Date), deleted_at: null })
      // In the order in which it was written, not in that of a jsonb.
      expect(JSON.stringify(a?.spec)).toBe('{"z":1,"a":[{"deep":true}]}')
    })

    test('a deletion leaves a tombstone that the feed tells of, until it is pruned', async () => {
      await putResources(db, [write('a', 1), write('b', 2)])
      await advanceResourceClock(db, 2)
      expect(await deleteResources(db, [{ ...ref('a'), replaces: 9, resource_version: 3 }])).toEqual([])
      expect(await deleteResources(db, [{ ...ref('a'), replaces: 1, resource_version: 3 }])).toEqual([ref('a')])
      await advanceResourceClock(db, 3)
      await advanceResourceClock(db, 2)
      expect(await readResourceClock(db)).toEqual({ version: 3, pruned: 0 })
      expect(await findResources(db, [ref('a')])).toEqual([])
      expect(await listResources(db, { ...filter, terms: [] }, page)).toMatchObject([{ name: 'b' }])
      expect(await listChanges(db, filter, { after: 1, limit: 50 })).toMatchObject([
        { name: 'b', deleted_at: null },
        { name: 'a', deleted_at: expect.any(Date), spec: {} },
      ])
      expect(await pruneTombstones(db, HOUR_MS, 50)).toBe(0)
      expect(await pruneTombstones(db, -HOUR_MS, 50)).toBe(1)
      expect(await readResourceClock(db)).toEqual({ version: 3, pruned: 3 })
      expect(await listChanges(db, filter, { after: 0, limit: 50 })).toMatchObject([{ name: 'b' }])
    })

    test('a name that was deleted can be made again', async () => {
      await putResources(db, [write('a', 1)])
      await deleteResources(db, [{ ...ref('a'), replaces: 1, resource_version: 2 }])
      expect(await putResources(db, [write('a', 3, { uid: 'res_other' })])).toHaveLength(1)
      expect(await findResources(db, [ref('a')])).toMatchObject([{ uid: 'res_other', first_version: 3 }])
    })

    test('selectors say the same in SQL as in memory', async () => {
      const all: Record<string, string>[] = [{}, { a: 'x' }, { a: 'y', b: 'x' }, { a: '', b: 'y' }, { b: "it's" }]
      await putResources(
        db,
        all.map((labels, i) => write(`r${i}`, i + 1, { labels })),
      )
      const terms: LabelTerm[] = [
        { op: 'in', key: 'a', values: ['x'] },
        { op: 'in', key: 'a', values: ['x', 'y'] },
        { op: 'notin', key: 'a', values: ['x', ''] },
        { op: 'exists', key: 'b' },
        { op: 'absent', key: 'a' },
        { op: 'in', key: 'b', values: ["it's"] },
        { op: 'in', key: 'toString', values: ['x'] },
      ]
      for (const one of terms)
        for (const two of terms) {
          const found = await listResources(db, { ...filter, terms: [one, two] }, page)
          const wanted = all.flatMap((labels, i) => (matchesTerms(labels, [one, two]) ? [`r${i}`] : []))
          expect(
            found.map((r) => r.name),
            JSON.stringify([one, two]),
          ).toEqual(wanted)
        }
    })

    test('pages go on after a namespace and a name', async () => {
      await putResources(db, [
        write('b', 1),
        write('a', 2, { namespace: 'z' }),
        write('c', 3, { kind: 'Secret' }),
        write('a', 4),
      ])
      const terms: LabelTerm[] = []
      const first = await listResources(db, { ...filter, terms }, { after: null, limit: 2 })
      const rest = await listResources(
        db,
        { ...filter, terms },
        { after: { namespace: 'default', name: 'b' }, limit: 2 },
      )
      expect([...first, ...rest].map((r) => `${r.namespace}/${r.name}`)).toEqual(['default/a', 'default/b', 'z/a'])
      expect(await listResources(db, { ...filter, terms, namespaces: ['z'] }, page)).toHaveLength(1)
      expect(await listResources(db, { ...filter, terms, namespaces: [] }, page)).toEqual([])
      expect(await listNames(db, { kind: 'Workflow', namespace: 'default' }, 1)).toEqual(['a'])
      expect(await listChanges(db, { ...filter, namespaces: ['z'], name: 'a' }, { after: 0, limit: 9 })).toHaveLength(1)
    })

    test('versions never change, and go with their workflow', async () => {
      const version = (n: number, lifecycle: string) => ({
        uid: 'res_a',
        version: n,
        definition: `h${n}`,
        lifecycle,
        spec: { n },
        created_by: 'tok',
      })
      await putVersions(db, [version(1, 'active'), version(2, 'deprecated'), version(3, 'draft')])
      await putVersions(db, [version(1, 'draft')])
      expect(await findVersion(db, 'res_a', 1)).toMatchObject({ lifecycle: 'active', spec: { n: 1 } })
      expect(await findVersion(db, 'res_a', 4)).toBeNull()
      expect(await findPublished(db, 'res_a')).toMatchObject({ version: 2 })
      expect((await listVersions(db, 'res_a', { below: 3, limit: 1 })).map((v) => v.version)).toEqual([2])
      await deleteVersions(db, ['res_a'])
      expect(await findPublished(db, 'res_a')).toBeNull()
    })

    test('the lock of the clock is held to the end of a transaction', async () => {
      await db.transaction(async (tx) => {
        expect(await lockResourceClock(tx)).toEqual({ version: 0, pruned: 0 })
        await advanceResourceClock(tx, 7)
      })
      expect(await readResourceClock(db)).toEqual({ version: 7, pruned: 0 })
    })
  })
}
