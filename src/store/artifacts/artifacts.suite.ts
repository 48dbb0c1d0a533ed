import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Db } from '../db.ts'
import { endSessions } from '../sessions/sessions.ts'
import type { LeasedStep } from '../steps/complete-steps.ts'
import { StoreRig } from '../testing/rig.ts'
import {
  artifactKey,
  findArtifact,
  listArtifacts,
  listArtifactsOf,
  type NewArtifact,
  pruneArtifacts,
  recordArtifacts,
} from './artifacts.ts'
import { confirmBlob, discardChunks, findChunk, findChunkOf, openBlobs, putChunk, sweepBlobs } from './blobs.ts'

const NAMESPACE = 'default'
const DAY_MS = 24 * 3_600_000
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Files of steps and their contents, on any store. */
export function artifactSuite(name: string, open: () => Promise<Db>): void {
  describe(name, () => {
    let db: Db
    let rig: StoreRig
    beforeAll(async () => {
      db = await open()
      rig = new StoreRig(db)
    })
    afterAll(() => db.close())

    const keyOf = (text: string) => ({ namespace: NAMESPACE, sha256: sha256(text) })
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    const upload = async (text: string): Promise<void> => {
      await openBlobs(db, [{ ...keyOf(text), bytes: text.length }])
      await putChunk(db, { ...keyOf(text), index: 0, base64: base64(text), chunkBytes: 16 })
      await confirmBlob(db, keyOf(text))
    }
    const lease = async (): Promise<LeasedStep> => {
      // A queue of its own: what an earlier test left is not claimed.
      const workflow = await rig.put([{ name: 'a', runsOn: { test: crypto.randomUUID() } }])
      await rig.run(workflow)
      const [step] = await rig.claim(await rig.session(), workflow, 1)
      if (!step) throw new Error('nothing was leased')
      return step
    }
    const fileOf = (step: LeasedStep, file: string, text: string, extra: Partial<NewArtifact> = {}): NewArtifact => {
      const { runId, node, path, session, fence } = step
      const content = { ...keyOf(text), bytes: text.length }
      return { runId, node, path, session, fence, name: file, ...content, retentionMs: DAY_MS, ...extra }
    }

    test('a step reads the files of steps that it may, and their contents alone', async () => {
      const step = await lease()
      await upload('given')
      await upload('other')
      await recordArtifacts(db, [fileOf(step, 'b', 'given'), fileOf(step, 'a', 'given')])
      const { runId, node } = step
      const names = async (after: { path: string; name: string }, of = node) =>
        (await listArtifactsOf(db, { runId, node: of, after, limit: 10 })).map((row) => row.name)
      expect(await names({ path: '', name: '' })).toEqual(['a', 'b'])
      expect(await names({ path: '', name: 'a' })).toEqual(['b'])
      expect(await names({ path: '', name: '' }, node + 1)).toEqual([])
      const read = (text: string, nodes: number[], index = 0) =>
        findChunkOf(db, { runId, nodes, sha256: sha256(text), index })
      expect(await read('given', [node])).toBe(base64('given'))
      expect(await read('given', [node], 1)).toBeNull()
      expect(await read('given', [node + 1])).toBeNull()
      expect(await read('other', [node])).toBeNull()
    })

    test('a content is asked for until it is whole, and then never again', async () => {
      const blob = { ...keyOf('one'), bytes: 3 }
      expect(await openBlobs(db, [blob, blob])).toEqual([keyOf('one')])
      expect(await putChunk(db, { ...keyOf('one'), index: 0, base64: base64('one'), chunkBytes: 4 })).toBe(true)
      expect(await openBlobs(db, [blob])).toEqual([keyOf('one')])
      await confirmBlob(db, keyOf('one'))
      expect(await openBlobs(db, [blob])).toEqual([])
      expect((await findChunk(db, keyOf('one'), 0))?.toString()).toBe('one')
      expect(await findChunk(db, keyOf('one'), 1)).toBeNull()
    })

    test('a whole content cannot be written over, nor taken away by who uploads', async () => {
      await upload('whole')
      expect(await putChunk(db, { ...keyOf('whole'), index: 0, base64: base64('other'), chunkBytes: 16 })).toBe(false)
      await discardChunks(db, keyOf('whole'))
      expect((await findChunk(db, keyOf('whole'), 0))?.toString()).toBe('whole')
    })

    test('no more is kept than the content is said to have', async () => {
      await openBlobs(db, [{ ...keyOf('size'), bytes: 4 }])
      const chunk = { ...keyOf('size'), base64: base64('size'), chunkBytes: 4 }
      expect(await putChunk(db, { ...chunk, index: 1 })).toBe(false)
      expect(await putChunk(db, { ...chunk, index: 0 })).toBe(true)
    })

    test('a piece of a content that nobody announced is refused', async () => {
      expect(await putChunk(db, { ...keyOf('unknown'), index: 0, base64: '', chunkBytes: 16 })).toBe(false)
    })

    test('bytes of all kinds come back as they were', async () => {
      const bytes = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256))
      const key = { namespace: NAMESPACE, sha256: sha256('bytes') }
      await openBlobs(db, [{ ...key, bytes: bytes.length }])
      await putChunk(db, { ...key, index: 0, base64: bytes.toString('base64'), chunkBytes: 512 })
      expect((await findChunk(db, key, 0))?.equals(bytes)).toBe(true)
    })

    test('the same content in another namespace is another one', async () => {
      await upload('shared')
      expect(await openBlobs(db, [{ namespace: 'other', sha256: sha256('shared'), bytes: 6 }])).toHaveLength(1)
    })

    test('a file is recorded by who holds the step, with a whole content of its size', async () => {
      await upload('text')
      const step = await lease()
      const good = fileOf(step, 'out/a.txt', 'text')
      const wrong = [
        fileOf(step, 'b', 'text', { fence: step.fence + 1 }),
        fileOf(step, 'c', 'text', { session: 'ses_other' }),
        fileOf(step, 'd', 'never uploaded'),
        fileOf(step, 'e', 'text', { bytes: 5 }),
      ]
      expect(await recordArtifacts(db, [good, ...wrong])).toEqual(new Set([artifactKey(good)]))
      const listed = await listArtifacts(db, { runId: step.runId, after: null, limit: 10 })
      expect(listed).toMatchObject([{ name: 'out/a.txt', bytes: 4, sha256: sha256('text') }])
      expect(await recordArtifacts(db, [good])).toEqual(new Set([artifactKey(good)]))
    })

    test('nothing is recorded for a session that has ended', async () => {
      await upload('text')
      const step = await lease()
      await endSessions(db, [step.session], 'worker.lost')
      expect(await recordArtifacts(db, [fileOf(step, 'a', 'text')])).toEqual(new Set())
    })

    test('files are listed in order, page by page, and found by name', async () => {
      await upload('text')
      const step = await lease()
      await recordArtifacts(
        db,
        ['c', 'a', 'b'].map((file) => fileOf(step, file, 'text')),
      )
      const { runId, node, path } = step
      const first = await listArtifacts(db, { runId, after: null, limit: 2 })
      expect(first.map((a) => a.name)).toEqual(['a', 'b'])
      const rest = await listArtifacts(db, { runId, after: { node, path, name: 'b' }, limit: 2 })
      expect(rest.map((a) => a.name)).toEqual(['c'])
      expect(await findArtifact(db, { runId, node, path, name: 'b' })).toMatchObject({ name: 'b' })
      expect(await findArtifact(db, { runId, node, path, name: 'x' })).toBeNull()
    })

    test('what has expired is gone at once, pruned later, and its content swept when nobody needs it', async () => {
      await upload('short')
      await upload('long')
      const step = await lease()
      await recordArtifacts(db, [
        fileOf(step, 'short', 'short', { retentionMs: 0 }),
        fileOf(step, 'long', 'long', { retentionMs: DAY_MS }),
      ])
      const { runId } = step
      expect((await listArtifacts(db, { runId, after: null, limit: 10 })).map((a) => a.name)).toEqual(['long'])
      expect(await pruneArtifacts(db, 100)).toBe(1)
      expect(await pruneArtifacts(db, 100)).toBe(0)
      expect(await sweepBlobs(db, { idleMs: DAY_MS, limit: 100 })).toBe(0)
      expect(await sweepBlobs(db, { idleMs: -1_000, limit: 100 })).toBeGreaterThan(0)
      expect(await findChunk(db, keyOf('short'), 0)).toBeNull()
      expect((await findChunk(db, keyOf('long'), 0))?.toString()).toBe('long')
    })
  })
}
