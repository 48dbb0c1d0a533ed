import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { failureIn, openScene, writeBelow } from './rig.ts'

describeWithPostgres('BKE-5: the executable is missing, or the workspace cannot be written', (postgres) => {
  test('a program that is nowhere on the PATH is named with the places that were looked at; installed, it runs', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const bin = join(scene.dir, 'bin')
    const env = { PATH: `${bin}:/usr/bin:/bin` }
    const run = await scene.start([{ name: 'tool', command: ['orrery-test-tool', 'x'], env }])
    const ended = await scene.ended(run)
    expect(ended).toMatchObject({
      state: 'failed',
      failure: {
        code: 'backend.executable_missing',
        evidence: { searched: expect.arrayContaining([expect.stringContaining(bin)]) },
        retryable: false,
        remediation: expect.stringContaining('PATH'),
      },
    })
    expect(JSON.stringify(ended.failure)).toContain('orrery-test-tool')
    expect((await scene.orrery('runs', 'show', run)).stdout).toContain('backend.executable_missing')

    const program = writeBelow(scene.dir, 'bin/orrery-test-tool', '#!/bin/sh\necho ran\n')
    await scene.client.retryRun(run)
    const second = await scene.ended(run)
    expect(second).toMatchObject({ state: 'failed', failure: { code: 'backend.executable_missing' } })
    expect(JSON.stringify(second.failure)).toContain(program)

    chmodSync(program, 0o755)
    await scene.client.retryRun(run)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', epoch: 3 })
  })

  test('a worker whose workspace cannot be written does not start, and names the place', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const file = writeBelow(scene.dir, 'a-file', 'not a directory')
    const start = (place: string) =>
      runOrrery(['worker', '--server', scene.address, '--workspace', place, '--json'], {
        env: { ORRERY_WORKER_TOKEN: scene.workerToken },
      })
    const place = join(file, 'below')
    const end = await start(place)
    expect(end.code).toBe(74)
    const failure = failureIn(end.stderr)
    expect(failure).toMatchObject({
      code: 'backend.workspace_not_writable',
      remediation: expect.stringContaining('--workspace'),
    })
    expect(JSON.stringify(failure)).toContain(place)

    const run = await scene.start([{ name: 'tool', command: ['true'] }])
    await scene.startWorker()
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })
})
