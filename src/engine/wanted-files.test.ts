import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Assignment } from '../contract/exchange.ts'
import { compileWorkflow } from '../domain/manifest.ts'
import { LIMITS } from '../domain/limits.ts'
import { FEATURES } from '../domain/workflow.ts'
import type { RunningEngine } from './create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig } from './testing/rig.ts'

let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
useRig((opened) => {
  rig = opened
  engine = rig.engine()
})

const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex')
const atOf = ({ step, fence }: Assignment) => ({ session: worker.session, step, fence })

async function start(steps: object[]): Promise<string> {
  worker = await rig.worker(engine, { backends: ['process'], modules: [], features: [...FEATURES] })
  const compiled = compileWorkflow({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name: 'w' },
    spec: { steps },
  })
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems))
  return rig.start(engine, (await engine.putDefinition(ADMIN, compiled.definition)).hash)
}

/** Leaves files as a worker does. */
async function leave(of: Assignment, files: Record<string, Buffer>, retentionMs = 60_000): Promise<void> {
  const listed = Object.entries(files).map(([name, content]) => ({
    name,
    bytes: content.length,
    sha256: sha256(content),
    retentionMs,
  }))
  const answer = await engine.takeArtifacts(worker.caller, { ...atOf(of), files: listed, sent: false })
  for (const content of Object.values(files)) {
    if (!answer.missing.includes(sha256(content))) continue
    for (let index = 0; index * LIMITS.artifactChunkBytes < content.length; index++) {
      const piece = content.subarray(index * LIMITS.artifactChunkBytes, (index + 1) * LIMITS.artifactChunkBytes)
      const chunk = { ...atOf(of), sha256: sha256(content), index, base64: piece.toString('base64') }
      await engine.takeChunk(worker.caller, chunk)
    }
  }
  expect(await engine.takeArtifacts(worker.caller, { ...atOf(of), files: listed, sent: true })).toMatchObject({
    state: 'recorded',
  })
}

async function next(attempt: Assignment): Promise<Assignment> {
  return (await worker.done(attempt)).assignments[0] ?? worker.pollFirst()
}
const list = (of: Assignment) => engine.listWanted(worker.caller, atOf(of))
const read = async (of: Assignment, sum: string, index = 0) =>
  (await engine.readWanted(worker.caller, { ...atOf(of), sha256: sum, index })).base64

const build = { name: 'build', command: ['true'], artifacts: [{ path: '**', optional: true }] }

describe('files of earlier steps', () => {
  const big = Buffer.alloc(LIMITS.artifactChunkBytes + 5, 'ab\0')
  const small = Buffer.from('small')

  test('are those that the step names, and are read piece by piece', async () => {
    await start([
      build,
      { name: 'use', command: ['true'], needs: ['build'], files: [{ from: 'build', path: 'dist/**', to: 'in' }] },
    ])
    const first = await worker.pollFirst()
    await leave(first, { 'dist/big': big, 'dist/empty': Buffer.alloc(0), other: small })
    const use = await next(first)
    expect(use.work).toMatchObject({ files: [{ from: 'build', path: 'dist/**', optional: false }] })
    expect(await list(use)).toEqual({
      state: 'held',
      files: [
        { want: 0, at: 'in/dist/big', bytes: big.length, sha256: sha256(big) },
        { want: 0, at: 'in/dist/empty', bytes: 0, sha256: sha256(Buffer.alloc(0)) },
      ],
    })
    const pieces = [await read(use, sha256(big)), await read(use, sha256(big), 1)]
    expect(Buffer.concat(pieces.map((piece) => Buffer.from(piece ?? '', 'base64'))).equals(big)).toBe(true)
    expect(await read(use, sha256(big), 2)).toBeNull()
  })

  test('are nobody else’s to read: not those of other steps, not by an attempt that is over', async () => {
    await start([
      build,
      { ...build, name: 'secret' },
      { name: 'use', command: ['true'], needs: ['build', 'secret'], files: [{ from: 'build' }] },
    ])
    const { assignments } = await worker.poll()
    const [one, two] = [assignments.find((a) => a.name === 'build'), assignments.find((a) => a.name === 'secret')]
    if (!one || !two) throw new Error('nothing assigned')
    await leave(one, { open: small })
    await leave(two, { hidden: big })
    await worker.done(one)
    const use = await next(two)
    expect((await list(use)).files.map((f) => f.at)).toEqual(['open'])
    expect(await read(use, sha256(big))).toBeNull()
    expect(await read(use, sha256(small))).toBe(small.toString('base64'))
    // A step that names no files is given none.
    expect(await list(one)).toEqual({ state: 'stale', files: [] })
    expect(await read(one, sha256(small))).toBeNull()
  })

  test('are those of its last attempt', async () => {
    await start([
      { ...build, retry: { max: 1, initial: '0s' } },
      { name: 'use', command: ['true'], needs: ['build'], files: [{ from: 'build' }] },
    ])
    const first = await worker.pollFirst()
    await leave(first, { 'why.log': small })
    await worker.report(first, {
      kind: 'failed',
      failure: { code: 'step.exit_nonzero', message: 'm', remediation: 'r', retryable: false },
    })
    await engine.tick()
    const second = await worker.pollFirst()
    await leave(second, { app: small })
    expect((await list(await next(second))).files.map((f) => f.at)).toEqual(['app'])
  })

  test('of a step that spread have its index, and what is over its time is gone', async () => {
    await start([
      { ...build, forEach: [1, 2] },
      { name: 'use', command: ['true'], needs: ['build'], files: [{ from: 'build', to: 'in' }] },
    ])
    await engine.tick()
    const { assignments } = await worker.poll()
    const [one, two] = assignments
    if (!one || !two) throw new Error('nothing assigned')
    await leave(one, { out: small })
    await leave(two, { out: small }, 1_000)
    await worker.done(one)
    await worker.done(two)
    await engine.tick()
    const use = await worker.pollFirst()
    expect((await list(use)).files.map((f) => f.at)).toEqual(['in/0/out', 'in/1/out'])
    await rig.advance(2_000)
    expect((await list(use)).files.map((f) => f.at)).toEqual(['in/0/out'])
  })
})
