// One crash each, at a moment that is known.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../../src/base/index.ts'
import type { RunView, StepView } from '../../src/contract/index.ts'
import { openPostgres } from '../../src/store/index.ts'
import { eventually } from '../support/eventually.ts'
import { findPostgres, startPostgres } from '../support/postgres.ts'
import { expectNoProcessLeft, runOrrery, startOrrery } from '../support/processes.ts'
import { findWrongs, WHOLE_OUTPUT } from './history.ts'
import { Rig } from './rig.ts'
import { COMMAND, LONG, SHAPES, STAGED } from './workflows.ts'

const ENDS_WITHIN_MS = 60_000

const stepOf = (run: RunView, name: string): StepView => {
  const step = run.stepList.find((s) => s.name === name)
  if (!step) throw new Error(`${run.id} has no step ${name}`)
  return step
}

const ended = (rig: Rig, id: string): Promise<RunView> =>
  eventually(
    async () => {
      const run = await rig.client.getRun(id)
      return ['succeeded', 'failed', 'canceled'].includes(run.state) && run
    },
    { withinMs: ENDS_WITHIN_MS, what: `the end of ${id}` },
  ).catch((error: unknown) => {
    throw new Error(rig.said(), { cause: error })
  })

describe.skipIf(findPostgres().kind === 'missing')('a kill -9', () => {
  let rig: Rig | null = null
  afterEach(async () => {
    await rig?.close()
    rig = null
    await expectNoProcessLeft()
  })

  test('of a worker gives its function step to another, under a new fence, with one result', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 2 }))
    const { id } = await r.client.createRun({ workflow: LONG, inputs: { journal: r.journalFile, ms: 4_000 } })
    const first = await eventually(async () => (await r.journal())[0], { withinMs: 40_000, what: 'the start of a' })
    const victim = r.workers.find((w) => w.process?.pid === first.pid)
    const killedAt = Date.now()
    await victim?.kill9()
    const run = await ended(r, id)
    const starts = (await r.journal()).filter((l) => l.step === first.step && l.what === 'start')
    process.stdout.write(
      `recovery: a function began again ${(starts[1]?.at ?? 0) - killedAt} ms after its worker was killed\n`,
    )
    expect(run).toMatchObject({ state: 'succeeded', failure: null })
    expect(stepOf(run, 'a')).toMatchObject({ fence: 2, losses: 1, tries: 0, output: { value: 2 } })
    expect(stepOf(run, 'a').attempts).toMatchObject([{ fence: 1, state: 'lost', failure: { code: 'worker.lost' } }])
    expect(starts.map((l) => l.fence)).toEqual([1, 2])
    expect(await findWrongs(r, new Set([id]))).toEqual([])
  })

  test('of a worker leaves its command running, which the next life of the worker adopts', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 1 }))
    const { id } = await r.client.createRun({
      workflow: COMMAND,
      inputs: { journal: r.journalFile, ms: 0, pause: '0.3' },
    })
    await eventually(async () => (await r.journal())[0], { withinMs: 40_000, what: 'the start of the command' })
    const [worker] = r.workers
    await worker?.kill9()
    worker?.start()
    const run = await ended(r, id)
    expect(run.state, r.said()).toBe('succeeded')
    expect(stepOf(run, 'sh')).toMatchObject({ fence: 1, losses: 0, tries: 0, output: { value: 7 }, attempts: [] })
    expect(await r.journal()).toHaveLength(1)
    let text = ''
    for await (const line of r.client.followLogs(id, { step: 'sh' })) text += line.text
    expect(text).toBe(WHOLE_OUTPUT)
    expect(await findWrongs(r, new Set([id]))).toEqual([])
  })

  test('of a worker between the commands of one step repeats none of them and leaves none out', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 1 }))
    const { id } = await r.client.createRun({ workflow: STAGED, inputs: { dir: r.home } })
    const trace = async () => (await readFile(join(r.home, 'trace'), 'utf8')).trim().split('\n')
    await eventually(async () => (await trace()).includes('two'), { withinMs: 20_000, what: 'the second set-up' })
    const [worker] = r.workers
    await worker?.kill9()
    await writeFile(join(r.home, 'gate'), '')
    await eventually(async () => (await trace()).includes('three'), { withinMs: 20_000, what: 'the tear-down' })
    worker?.start()
    const run = await ended(r, id)
    expect(run.state, r.said()).toBe('succeeded')
    expect(stepOf(run, 'staged')).toMatchObject({ fence: 1, losses: 0, output: 7 })
    expect(stepOf(run, 'after')).toMatchObject({ output: 'v is 7' })
    expect(await trace()).toEqual(['one', 'two', 'main', 'three'])
  })

  test('of a worker that does not come back gives its command to another when the lease ends', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 2 }))
    const inputs = { journal: r.journalFile, ms: 0, pause: '0.2' }
    const { id } = await r.client.createRun({ workflow: COMMAND, inputs })
    await eventually(async () => (await r.journal())[0], { withinMs: 40_000, what: 'the start of the command' })
    const name = stepOf(
      await eventually(
        async () => {
          const run = await r.client.getRun(id)
          return stepOf(run, 'sh').worker !== null && run
        },
        { withinMs: 40_000, what: 'the worker of the command' },
      ),
      'sh',
    ).worker
    const victim = r.workers.find((w) => w.name === name)
    const killedAt = Date.now()
    await victim?.kill9()
    await eventually(async () => (await r.journal()).length === 2, { withinMs: 30_000, what: 'its second start' })
    process.stdout.write(
      `recovery: a command began again ${Date.now() - killedAt} ms after its worker was killed for good\n`,
    )
    const run = await ended(r, id)
    expect(run.state, r.said()).toBe('succeeded')
    expect(stepOf(run, 'sh')).toMatchObject({ fence: 2, losses: 1, output: { value: 7 } })
    // What the first worker left is stopped when it comes back, and changes nothing.
    victim?.start()
    await victim?.process?.waitFor(/takes work from/, { withinMs: 30_000 })
    expect(await findWrongs(r, new Set([id]))).toEqual([])
  })

  test('of the server delays the runs in flight and loses none', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 1 }))
    const [server] = r.servers
    const made = Array.from({ length: 20 }, () =>
      r.client.createRun({ workflow: SHAPES['chain']?.manifest ?? {}, inputs: { journal: r.journalFile, ms: 300 } }),
    )
    const accepted = new Set((await Promise.all(made)).map((run) => run.id))
    await eventually(async () => (await r.journal()).some((l) => l.what === 'end'), { withinMs: 40_000 })
    await server?.member.kill9()
    const killedAt = Date.now()
    server?.member.start()
    for (const id of accepted) await ended(r, id)
    process.stdout.write(
      `recovery: the runs of a killed server ended ${Date.now() - killedAt} ms after it was killed\n`,
    )
    expect(await findWrongs(r, accepted)).toEqual([])
  })

  test('of one server of two moves its worker to the other, which takes what ends under the same attempt', async () => {
    const r = (rig = await Rig.start({ servers: 2, workers: 1, knowsAll: true }))
    const [first, second] = r.servers
    const { id } = await (second?.client ?? r.client).createRun({
      workflow: LONG,
      inputs: { journal: r.journalFile, ms: 3_000 },
    })
    await eventually(async () => (await r.journal())[0], { withinMs: 40_000, what: 'the start of a' })
    await first?.member.kill9()
    const run = await eventually(
      async () => {
        const found = await second?.client.getRun(id)
        return found?.endedAt && found
      },
      { withinMs: ENDS_WITHIN_MS, what: `the end of ${id} at the other server` },
    )
    expect(run).toMatchObject({ state: 'succeeded', failure: null })
    expect(stepOf(run, 'a')).toMatchObject({ fence: 1, losses: 0, attempts: [], output: { value: 2 } })
    expect((await r.journal()).map((l) => l.what).filter((what) => what === 'start')).toHaveLength(run.stepList.length)
    expect(r.workers[0]?.output()).toMatch(/going on with the next server/)
    expect(await findWrongs(r, new Set([id]))).toEqual([])
  })

  test('of PostgreSQL shows at /readyz, and everything goes on when it is back', async () => {
    const r = (rig = await Rig.start({ servers: 1, workers: 1 }))
    const address = r.servers[0]?.address ?? ''
    const request = { workflow: SHAPES['join']?.manifest ?? {}, inputs: { journal: r.journalFile, ms: 300 } }
    const accepted = new Set<string>()
    for (let i = 0; i < 20; i++) accepted.add((await r.client.createRun(request)).id)
    await r.postgres.kill9()
    await eventually(async () => (await r.status(address, '/readyz')) === 503, { withinMs: 40_000, what: 'not ready' })
    expect(await r.status(address, '/healthz')).toBe(200)
    await expect(r.client.createRun(request)).rejects.toMatchObject({ code: 'storage.unreachable' })
    await r.postgres.restart()
    await eventually(() => r.isReady(address), { withinMs: 40_000, what: 'ready again' })
    accepted.add((await r.client.createRun(request)).id)
    for (const id of accepted) await ended(r, id)
    expect(await findWrongs(r, accepted)).toEqual([])
  })
})

describe.skipIf(findPostgres().kind === 'missing')('a transaction', () => {
  test('whose PostgreSQL is killed between two statements fails, and the process lives on', async () => {
    const postgres = await startPostgres()
    onTestFinished(() => postgres.stop())
    const db = openPostgres({ dsn: postgres.dsn(), connections: 2, log: silentLog })
    try {
      const cut = db.transaction(async (tx) => {
        await tx.query('select 1')
        await postgres.kill9()
        await eventually(
          () =>
            tx.query('select 2').then(
              () => false,
              () => true,
            ),
          { withinMs: 40_000 },
        )
        return tx.query('select 3')
      })
      await expect(cut).rejects.toMatchObject({ code: 'storage.unreachable' })
      await postgres.restart()
      await eventually(() => db.query('select 1'), { withinMs: 40_000, what: 'the database' })
    } finally {
      await db.close()
    }
  })
})

describe('a kill -9 of an embedded Orrery', () => {
  let home = ''
  afterEach(async () => {
    await expectNoProcessLeft({ withinMs: 40_000 })
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  })

  const ONE = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: one }
spec:
  steps: [{ name: a, command: ['true'] }]
`

  const SLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: slow }
spec:
  inputs: { type: object, properties: { journal: { type: string } } }
  steps:
    - name: first
      command: 'echo first >> "$J"'
      env: { J: '\${{ inputs.journal }}' }
    - name: second
      needs: [first]
      command: 'echo second >> "$J"; sleep 3; echo done >> "$J"'
      env: { J: '\${{ inputs.journal }}' }
    - name: third
      needs: [second]
      command: 'echo third >> "$J"'
      env: { J: '\${{ inputs.journal }}' }
`

  /** A run that was cut in the middle of its second step. */
  async function cutRun(): Promise<{ id: string; args: string[]; lines(): Promise<string[]> }> {
    home = await mkdtemp(join(tmpdir(), 'orrery-cut-'))
    const journal = join(home, 'journal')
    const file = join(home, 'slow.yaml')
    await writeFile(file, SLOW)
    const args = [
      'run',
      file,
      '--data-dir',
      join(home, 'data'),
      '--input',
      `journal=${journal}`,
      '--idempotency-key',
      'k',
    ]
    const run = startOrrery(args)
    const lines = async () => (await readFile(journal, 'utf8').catch(() => '')).split('\n').filter((l) => l !== '')
    await eventually(async () => (await lines()).includes('second'), { withinMs: 40_000, what: run.output() })
    await run.kill9()
    const id = /run_\w+/.exec(run.output())?.[0] ?? ''
    return { id, args, lines }
  }

  test.each([0, 1, 10])(
    'in its very first start, %i files into its database, leaves nothing that stops the next',
    async (files) => {
      home = await mkdtemp(join(tmpdir(), 'orrery-first-'))
      const file = join(home, 'one.yaml')
      await writeFile(file, ONE)
      const args = ['run', file, '--data-dir', join(home, 'data')]
      const run = startOrrery(args)
      const pglite = join(home, 'data', 'pglite')
      await eventually(
        async () =>
          (await readdir(join(home, 'data')).catch((): string[] => [])).includes('pglite.making') &&
          (await readdir(pglite).catch((): string[] => [])).length >= files,
        { withinMs: 40_000, what: 'the first files' },
      )
      await run.kill9()
      const again = await runOrrery(args)
      expect(again, again.stderr).toMatchObject({ code: 0 })
    },
  )

  test('is survived: the same run goes on under orrery run, and its command is not started twice', async () => {
    const { id, args, lines } = await cutRun()
    const again = await runOrrery(args, { withinMs: 60_000 })
    expect(again.stdout).toContain(id)
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(await lines()).toEqual(['first', 'second', 'done', 'third'])
  })

  test('is survived: the run goes on under orrery up', async () => {
    const { id, lines } = await cutRun()
    const env = { ORRERY_DATA_DIR: join(home, 'data') }
    const up = startOrrery(['up', '--port', '0'], { env })
    try {
      await up.waitFor(/orrery is up/, { withinMs: 40_000 })
      await eventually(
        async () => {
          const shown = await runOrrery(['runs', 'show', id, '--json'], { env })
          return (JSON.parse(shown.stdout) as RunView).state === 'succeeded' // what --json prints
        },
        { withinMs: 40_000, what: 'the end of the run' },
      )
      expect(await lines()).toEqual(['first', 'second', 'done', 'third'])
    } finally {
      await up.stop()
    }
  })
})
