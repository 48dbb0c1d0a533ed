import { spawnSync } from 'node:child_process'
import { appendFileSync, chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { endedRun, makeDir, refused, startUp, WITHIN, workflowOf, writeBelow } from './rig.ts'

const isRoot = process.getuid?.() === 0

/** A file system of its own in memory; false where this user may not mount one. */
function mountTmpfs(at: string, options: string): boolean {
  mkdirSync(at, { recursive: true })
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', at])
  if (status === 0) onTestFinished(() => void spawnSync('umount', ['-l', at]))
  return status === 0
}

const canMount = (() => {
  if (!isRoot || process.platform !== 'linux') return false
  const at = join('/tmp', `orrery-mount-${process.pid}`)
  mkdirSync(at)
  const works = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', at]).status === 0
  if (works) spawnSync('umount', [at])
  rmSync(at, { recursive: true })
  return works
})()

/** Writes until there is no room. */
function fill(file: string): void {
  const block = Buffer.alloc(64 * 1024)
  for (;;) {
    try {
      appendFileSync(file, block)
    } catch {
      return
    }
  }
}

const noWorker = ['--store', 'embedded', '--no-worker']
const upIn = (dataDir: string) => ['up', '--port', '0', '--data-dir', dataDir, ...noWorker]

describe('CFG-6: the data directory cannot be used', () => {
  test('it is not writable: refused, naming the path; made writable, the server starts', async () => {
    const dir = makeDir()
    const place = join(dir, 'place')
    // Root may write everywhere but on a file system that is read-only, or below what is no directory.
    let mend: () => void
    if (canMount) {
      mountTmpfs(place, 'ro,size=200m')
      mend = () => void spawnSync('mount', ['-o', 'remount,rw', place])
    } else if (isRoot) {
      writeBelow(dir, 'place', 'a file')
      mend = () => rmSync(place)
    } else {
      mkdirSync(place, { mode: 0o500 })
      mend = () => chmodSync(place, 0o700)
    }
    const dataDir = join(place, 'data')
    const { exit, failure } = await refused(upIn(dataDir))
    expect(exit).toBe(74)
    expect(failure).toMatchObject({
      code: 'storage.not_writable',
      evidence: { directory: dataDir, errorCode: expect.stringMatching(/^E[A-Z]+$/) },
      remediation: expect.stringContaining('--data-dir'),
    })
    mend()
    const up = await startUp(noWorker, { dataDir })
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
    await up.process.stop()
  })

  test.skipIf(!canMount)(
    'its disk is full at the start: refused, naming it; with room, the server starts',
    async () => {
      const place = join(makeDir(), 'small')
      mountTmpfs(place, 'size=8m')
      const dataDir = join(place, 'data')
      const { exit, failure } = await refused(upIn(dataDir))
      expect(exit).toBe(74)
      expect(failure).toMatchObject({ code: 'storage.disk_full', evidence: { directory: dataDir } })
      spawnSync('mount', ['-o', 'remount,size=300m', place])
      const up = await startUp(noWorker, { dataDir })
      expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
      await up.process.stop()
    },
  )

  test.skipIf(!canMount)(
    'its disk fills up at work: new work is refused with the reason, and goes on once there is room',
    async () => {
      const place = join(makeDir(), 'small')
      mountTmpfs(place, 'size=100m')
      const up = await startUp(['--store', 'embedded'], { dataDir: join(place, 'data') })
      const workflow = workflowOf([{ name: 'only', command: ['true'] }])
      const create = () => up.client.createRun({ workflow, labels: { pad: 'x'.repeat(200) } })
      const { id: before } = await create()
      await endedRun(up.client, before)
      const ballast = join(place, 'ballast')
      fill(ballast)
      const failure = await eventually(
        () =>
          create().then(
            () => null,
            (error: unknown) => error,
          ),
        WITHIN,
      )
      expect(failure).toMatchObject({ code: 'storage.disk_full', remediation: expect.stringContaining('Free space') })
      rmSync(ballast)
      const { id } = await eventually(create, WITHIN)
      expect(await endedRun(up.client, id)).toMatchObject({ state: 'succeeded' })
      expect(await endedRun(up.client, before)).toMatchObject({ state: 'succeeded' })
      await up.process.stop()
    },
  )

  test('another server uses it: refused, naming its process; when that one ends, or is killed, the place is free', async () => {
    const first = await startUp(noWorker)
    const { exit, failure } = await refused(upIn(first.dataDir))
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'storage.locked',
      evidence: { directory: first.dataDir, pid: first.process.pid },
      remediation: expect.stringContaining(`Process ${first.process.pid}`),
    })
    const flow = writeBelow(makeDir(), 'flow.yaml', JSON.stringify(workflowOf([{ name: 'only', command: ['true'] }])))
    const run = await refused(['run', flow, '--data-dir', first.dataDir])
    expect(run).toMatchObject({
      exit: 78,
      failure: { code: 'storage.locked', remediation: expect.stringContaining('--server') },
    })

    await first.process.kill9()
    const second = await startUp(['--store', 'embedded'], { dataDir: first.dataDir })
    const { id } = await second.client.createRun({ workflow: workflowOf([{ name: 'only', command: ['true'] }]) })
    expect(await endedRun(second.client, id)).toMatchObject({ state: 'succeeded' })
    expect(await second.process.stop()).toEqual({ code: 0, signal: null })
    await eventually(() => !existsSync(join(first.dataDir, 'orrery.lock')), WITHIN)
  })
})
