import { expect, test } from 'vitest'
import { putToken } from '../../src/store/index.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, refused, startProxy, WITHIN } from './rig.ts'

describeWithPostgres('WRK-10: the token of a worker is refused', (postgres) => {
  test('an unknown token ends the worker with a clear failure; the right one works', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const args = ['worker', '--server', scene.address, '--name', 'stranger', '--workspace', scene.dir]
    const { exit, stdout, failure } = await refused(args, { ORRERY_WORKER_TOKEN: 'orr_nobody_knows_me' })
    expect(exit).toBe(77)
    expect(failure).toMatchObject({
      code: 'worker.auth_failed',
      evidence: { token: 'unknown, revoked or expired' },
      remediation: expect.stringContaining('ORRERY_WORKER_TOKEN'),
    })
    expect(JSON.stringify(failure)).not.toContain('orr_nobody_knows_me')
    expect(stdout).toBe('')
    const without = await refused(args)
    expect(without).toMatchObject({ exit: 77, failure: { code: 'worker.auth_failed', evidence: { token: 'missing' } } })

    const run = await scene.start([{ name: 'only', function: 't.echo' }])
    await scene.startWorker()
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('a token that is revoked while the worker is at work ends it; its step goes to another', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), times: { pollMs: 500 } })
    const worker = await scene.startWorker({ name: 'dismissed' })
    const run = await scene.start([{ name: 'work', function: 't.gate', with: { dir: scene.dir, name: 'work' } }])
    await eventually(() => scene.noted('work', 'began').length === 1, WITHIN)
    await scene.db.query(`update token set revoked_at = now() where role = 'worker'`)

    expect(await worker.ended).toEqual({ code: 77, signal: null })
    expect(worker.stderr()).toContain('worker.auth_failed')
    scene.open('work')
    const token = 'orr_another_one_that_is_valid'
    await putToken(scene.db, { id: 'tok_another', name: 'another', secret: token, role: 'worker', namespaces: null })
    await scene.startWorker({ name: 'heir', token })
    expect(await scene.ended(run)).toMatchObject({
      state: 'succeeded',
      stepList: [{ attempts: [{ worker: 'dismissed' }] }],
    })
  })

  test('a server that cannot be reached is no refusal: the worker tries again until it can', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const proxy = await startProxy(scene.address)
    proxy.cut()
    const worker = await scene.startWorker({ server: proxy.address, waits: false })
    await eventually(() => proxy.connections() >= 4, { ...WITHIN, what: 'more tries' })
    const run = await scene.start([{ name: 'only', function: 't.echo' }])
    expect(worker.stderr()).toContain('worker.server_unreachable')
    proxy.mend()
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('a worker too far away in version is told both versions, and ends', async () => {
    const scene = await openScene({ dsn: await postgres.createStore(), version: '7.0.0' })
    const worker = await scene.startWorker({ waits: false })
    expect(await worker.ended).toEqual({ code: 78, signal: null })
    expect(worker.stderr()).toContain('worker.incompatible')
    expect(worker.stderr()).toMatch(/server\s+7\.0\.0/)
  })
})
