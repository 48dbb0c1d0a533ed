import { expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { findPostgres, type Postgres, startPostgres } from '../support/postgres.ts'
import { startOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { endedRun, failureIn, FUNCTIONS, makeDir, startUp, WITHIN, workflowOf, writeBelow } from './rig.ts'

async function ownPostgres(port?: number): Promise<Postgres> {
  const cluster = await startPostgres(port === undefined ? {} : { port })
  onTestFinished(() => cluster.stop())
  return cluster
}

describeWithPostgres('CFG-4: the database cannot be reached', () => {
  test('at the start: tried a few times, then the server says so and leaves', async () => {
    const dsn = `postgres://orrery:hunter2@127.0.0.1:${await freePort()}/none`
    const up = startOrrery([
      'up',
      '--json',
      '--store',
      'postgres',
      '--postgres-dsn',
      dsn,
      '--data-dir',
      makeDir(),
      '--log-format',
      'json',
    ])
    expect(await up.ended).toEqual({ code: 69, signal: null })
    expect(up.stderr().match(/database not reachable yet/g)).toHaveLength(4)
    const failure = failureIn(up.stderr())
    expect(failure).toMatchObject({
      code: 'storage.unreachable',
      evidence: { errorCode: 'ECONNREFUSED' },
      cause: { message: expect.stringContaining('ECONNREFUSED') },
      remediation: expect.stringContaining('ORRERY_POSTGRES_DSN'),
    })
    expect(up.output()).not.toContain('hunter2')
  })

  test('at the start, but it comes in time: the server starts by itself', async () => {
    expect(findPostgres().kind).toBe('found')
    const port = await freePort()
    const starting = startUp([
      '--store',
      'postgres',
      '--postgres-dsn',
      `postgres://orrery@127.0.0.1:${port}/postgres`,
      '--no-worker',
    ])
    const [up] = await Promise.all([starting, ownPostgres(port)])
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
  })

  test('lost later: not ready, nothing lost, and the run finishes when it is back', async () => {
    const cluster = await ownPostgres()
    const dir = makeDir()
    const up = await startUp(['--store', 'postgres', '--postgres-dsn', cluster.dsn(), '--module', `t=${FUNCTIONS}`])
    const gate = (name: string, needs: string[]) => ({ name, function: 't.gate', with: { dir, name }, needs })
    const { id } = await up.client.createRun({ workflow: workflowOf([gate('first', []), gate('second', ['first'])]) })
    const stateOf = async (name: string) => (await up.client.getRun(id)).stepList.find((s) => s.name === name)?.state
    await eventually(async () => (await stateOf('first')) === 'running', WITHIN)
    await cluster.kill9()

    const problem = await eventually(async () => {
      const response = await fetch(`${up.address}/readyz`)
      return response.status === 503 ? response.json() : null
    }, WITHIN)
    expect(problem).toMatchObject({
      code: 'storage.unreachable',
      retryable: true,
      remediation: expect.stringContaining('by itself'),
    })
    expect((await fetch(`${up.address}/healthz`)).status).toBe(200)
    await expect(up.client.getRun(id)).rejects.toMatchObject({ code: 'storage.unreachable' })
    writeBelow(dir, 'first.go', '') // ends while nobody can record it

    await eventually(() => cluster.restart().then(() => true), WITHIN)
    await eventually(async () => (await fetch(`${up.address}/readyz`)).status === 200, WITHIN)
    writeBelow(dir, 'second.go', '')
    const run = await endedRun(up.client, id)
    expect(run).toMatchObject({ state: 'succeeded', stepList: [{ fence: 1, attempts: [] }, { fence: 1 }] })
  })
})
