import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { NewArtifactFile } from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, one, type RigWorker, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const fileOf = (name: string, content: Buffer, extra: Partial<NewArtifactFile> = {}): NewArtifactFile => ({
  name,
  bytes: content.length,
  sha256: createHash('sha256').update(content).digest('hex'),
  retentionMs: 60_000,
  ...extra,
})

/** A run whose step a worker holds. */
async function held() {
  worker = await rig.worker(engine)
  const runId = await rig.start(engine, await rig.put(engine, one))
  const { step, fence } = await worker.pollFirst()
  const at = { session: worker.session, step, fence }
  const take = (files: NewArtifactFile[], sent = false) => engine.takeArtifacts(worker.caller, { ...at, files, sent })
  const send = async (file: NewArtifactFile, content: Buffer) => {
    for (let index = 0; index * LIMITS.artifactChunkBytes < content.length; index++) {
      const piece = content.subarray(index * LIMITS.artifactChunkBytes, (index + 1) * LIMITS.artifactChunkBytes)
      const chunk = { ...at, sha256: file.sha256, index, base64: piece.toString('base64') }
      expect(await engine.takeChunk(worker.caller, chunk)).toEqual({ kept: true })
    }
  }
  const read = async (name: string) => {
    const chunks: Uint8Array[] = []
    const opened = await engine.openArtifact(ADMIN, runId, { step: 'a', name })
    for await (const chunk of opened.read()) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  const list = async () => (await engine.listArtifacts(ADMIN, runId, { cursor: null, limit: 10 })).items
  return { runId, at, take, send, read, list }
}

describe('files that a step leaves', () => {
  test('their contents are asked for, checked, and read back byte for byte', async () => {
    const { take, send, read, list } = await held()
    const content = Buffer.alloc(LIMITS.artifactChunkBytes * 2 + 7, 'abc\0')
    const file = fileOf('out/big.bin', content)
    const empty = fileOf('empty', Buffer.alloc(0))
    expect(await take([file, empty])).toEqual({ state: 'open', missing: [file.sha256] })
    await send(file, content)
    expect(await take([file, empty], true)).toEqual({ state: 'recorded', missing: [] })
    expect((await list()).map(({ step, name, bytes }) => ({ step, name, bytes }))).toEqual([
      { step: 'a', name: 'empty', bytes: 0 },
      { step: 'a', name: 'out/big.bin', bytes: content.length },
    ])
    expect((await read('out/big.bin')).equals(content)).toBe(true)
    expect((await read('empty')).length).toBe(0)
  })

  test('what is there already is not asked for again', async () => {
    const first = await held()
    const content = Buffer.from('the same')
    const file = fileOf('a.txt', content)
    await first.take([file])
    await first.send(file, content)
    await first.take([file], true)
    const second = await held()
    expect(await second.take([fileOf('b.txt', content)])).toEqual({ state: 'recorded', missing: [] })
  })

  test('a content that is not what its checksum says is asked for again, and nothing is recorded', async () => {
    const { take, send, list } = await held()
    const file = fileOf('a.txt', Buffer.from('good'))
    await take([file])
    await send(file, Buffer.from('evil'))
    expect(await take([file], true)).toEqual({ state: 'open', missing: [file.sha256] })
    expect(await list()).toEqual([])
    await send(file, Buffer.from('good'))
    expect(await take([file], true)).toEqual({ state: 'recorded', missing: [] })
  })

  test('whoever does not hold the step leaves nothing', async () => {
    const { take, at, list } = await held()
    const file = fileOf('empty', Buffer.alloc(0))
    const stale = { ...at, fence: at.fence + 1 }
    expect(await engine.takeArtifacts(worker.caller, { ...stale, files: [file], sent: false })).toMatchObject({
      state: 'stale',
    })
    const chunk = { ...stale, sha256: file.sha256, index: 0, base64: 'AAAA' }
    expect(await engine.takeChunk(worker.caller, chunk)).toEqual({ kept: false })
    await worker.done({ step: at.step, fence: at.fence })
    expect(await take([file])).toMatchObject({ state: 'stale' })
    expect(await list()).toEqual([])
  })

  test('after their time they are gone', async () => {
    const { take, list, runId } = await held()
    await take([fileOf('short', Buffer.alloc(0), { retentionMs: 1_000 })])
    expect(await list()).toHaveLength(1)
    await rig.advance(1_001)
    expect(await list()).toEqual([])
    await expect(engine.openArtifact(ADMIN, runId, { step: 'a', name: 'short' })).rejects.toMatchObject({
      code: 'artifact.not_found',
    })
  })

  test('are listed page by page, and a cursor that was not given out is refused', async () => {
    const { take, runId } = await held()
    await take(['c', 'a', 'b'].map((name) => fileOf(name, Buffer.alloc(0))))
    const first = await engine.listArtifacts(ADMIN, runId, { cursor: null, limit: 2 })
    expect(first.items.map((a) => a.name)).toEqual(['a', 'b'])
    const rest = await engine.listArtifacts(ADMIN, runId, { cursor: first.next, limit: 2 })
    expect(rest).toMatchObject({ items: [{ name: 'c' }], next: null })
    for (const cursor of [
      'x',
      Buffer.from('[1]').toString('base64url'),
      Buffer.from('["a","b","c"]').toString('base64url'),
    ])
      await expect(engine.listArtifacts(ADMIN, runId, { cursor, limit: 2 })).rejects.toMatchObject({
        code: 'request.invalid',
      })
  })

  test('of a run that the caller may not see look absent', async () => {
    const { take, runId } = await held()
    await take([fileOf('a', Buffer.alloc(0))])
    const other = { ...ADMIN, namespaces: ['other'] }
    await expect(engine.listArtifacts(other, runId, { cursor: null, limit: 2 })).rejects.toMatchObject({
      code: 'run.not_found',
    })
    await expect(engine.openArtifact(other, runId, { step: 'a', name: 'a' })).rejects.toMatchObject({
      code: 'run.not_found',
    })
  })
})
