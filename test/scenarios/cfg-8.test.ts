import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { endedRun, FUNCTIONS, startProxy, startUp, type Up, WITHIN, workflowOf } from './rig.ts'

/** What a server says to the database before it hears of the others. */
const LISTENS = 'listen "orrery_hints"'

const busRows = async (up: Up) => (await up.client.getDoctor()).rows.filter((row) => row.check === 'bus')
const when = (up: Up, holds: (rows: Awaited<ReturnType<typeof busRows>>) => boolean) =>
  eventually(
    async () => {
      const rows = await busRows(up)
      return holds(rows) ? rows : null
    },
    { ...WITHIN, what: 'the rows of the bus' },
  )

/** Two servers over one database: `far` reaches it through a proxy that can cut what listens, and has the worker. */
async function openPair(dsn: string, { isCut }: { isCut: boolean }) {
  const proxy = await startProxy(dsn, { only: LISTENS })
  if (isCut) proxy.cut()
  const through = new URL(dsn)
  through.port = new URL(proxy.address).port
  const near = await startUp(['--store', 'postgres', '--postgres-dsn', dsn, '--no-worker'])
  const far = await startUp(['--store', 'postgres', '--postgres-dsn', through.href, '--module', `t=${FUNCTIONS}`])
  // From now on each knows that it is not alone.
  await when(near, () => true)
  return { proxy, near, far }
}

const chain = workflowOf([
  { name: 'a', function: 't.echo', with: 1 },
  { name: 'b', function: 't.echo', needs: ['a'], with: 2 },
])

describeWithPostgres('CFG-8: servers do not hear each other', (postgres) => {
  test('from the start: runs go on by ticks, the doctor of each server says who hears nothing, and mended it hears', async () => {
    const { proxy, near, far } = await openPair(await postgres.createDatabase(), { isCut: true })
    const ids = await Promise.all(
      Array.from({ length: 5 }, async () => (await near.client.createRun({ workflow: chain })).id),
    )
    for (const id of ids) expect(await endedRun(near.client, id)).toMatchObject({ state: 'succeeded' })

    const own = await when(far, (rows) => rows.some((row) => row.status === 'warn'))
    expect(own[0]).toMatchObject({
      subject: 'this server',
      code: 'bus.unreachable',
      evidence: { servers: 2, error: expect.stringMatching(/./) as string },
      remedy: expect.stringContaining('LISTEN') as string,
    })
    const others = await when(near, (rows) => rows.length === 2)
    expect(others).toMatchObject([{ status: 'pass' }, { status: 'warn', code: 'bus.unreachable' }])
    expect(far.process.stderr()).toContain('bus.unreachable')
    expect((await fetch(`${far.address}/readyz`)).status).toBe(200)

    proxy.mend()
    expect(await when(far, (rows) => rows.every((row) => row.status === 'pass'))).toHaveLength(1)
    await when(near, (rows) => rows.length === 1)
  })

  test('lost later: what piles up meanwhile is done, and hints come through again once the way is back', async () => {
    const { proxy, near, far } = await openPair(await postgres.createDatabase(), { isCut: false })
    await when(far, (rows) => rows.every((row) => row.status === 'pass'))
    proxy.cut()
    await when(far, (rows) => rows.some((row) => row.code === 'bus.unreachable'))
    const { ids } = await near.client.createRuns({ workflow: chain, items: Array.from({ length: 20 }, () => ({})) })
    for (const id of ids) expect(await endedRun(far.client, id)).toMatchObject({ state: 'succeeded' })

    proxy.mend()
    await when(far, (rows) => rows.every((row) => row.status === 'pass'))
    const { id } = await near.client.createRun({ workflow: chain })
    expect(await endedRun(near.client, id)).toMatchObject({ state: 'succeeded' })
  })
})
