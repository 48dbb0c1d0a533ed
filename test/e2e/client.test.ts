// The typed client against a server that is killed and started again while it is waited for.
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Client, itemsOf, openClient, type ResourceChange, type RunEvent } from '../../src/client/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { expectNoProcessLeft, type OrreryProcess, startOrrery } from '../support/processes.ts'

const WITHIN = { withinMs: 40_000 }
const TOKEN = 'orr_test_of_the_client_0123456789'

const workflow = (name: string) => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name },
  spec: { steps: [{ name: 'one', command: ['true'] }] },
})

describe('the client and a server that comes and goes', () => {
  let home = ''
  let port = 0
  let up: OrreryProcess
  let client: Client

  /** A server at the same address; another data directory is another server. */
  async function start(data = 'data'): Promise<void> {
    up = startOrrery(['up', '--port', String(port), '--log-level', 'warn'], {
      env: { ORRERY_DATA_DIR: join(home, data), ORRERY_ADMIN_TOKEN: TOKEN },
    })
    await up.waitFor(/orrery is up/, WITHIN)
  }
  /** A run whose steps wait for files that `open` makes, one after the other. */
  async function gated(names: string[]): Promise<string> {
    const steps = names.map((name, i) => ({
      name,
      needs: names.slice(Math.max(0, i - 1), i),
      command: `until [ -e ${join(home, 'gates', name)} ]; do sleep 0.05; done; echo ${name}`,
    }))
    const { id } = await client.createRun({ workflow: { ...workflow('gated'), spec: { steps } } })
    return id
  }
  const open = (name: string) => writeFile(join(home, 'gates', name), '')
  const reaches = (run: string, step: string, state: string) =>
    eventually(async () => (await client.listSteps(run)).items.some((s) => s.name === step && s.state === state), {
      ...WITHIN,
      what: `${step} ${state}`,
    })

  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-client-'))
    await mkdir(join(home, 'gates'))
    port = await freePort()
    client = openClient({ server: `http://127.0.0.1:${port}`, token: TOKEN })
    await start()
  })
  afterEach(async () => {
    client.close()
    await up.stop()
    await expectNoProcessLeft()
    expect(existsSync(home)).toBe(true)
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  })

  test('waitForRun and followEvents outlast kills and starts: no gap, no repeat, and the end', async () => {
    const names = ['one', 'two', 'three']
    const run = await gated(names)
    const seen: (RunEvent & { terminal: boolean })[] = []
    const following = (async () => {
      for await (const event of client.followEvents(run)) seen.push(event)
    })()
    const waiting = client.waitForRun(run)
    for (const name of names) {
      await reaches(run, name, 'running')
      await eventually(() => seen.some((e) => e.changes.some((c) => c.of === name)), WITHIN)
      await up.kill9()
      await open(name)
      await start()
      await reaches(run, name, 'succeeded')
    }
    expect(await waiting).toMatchObject({ id: run, state: 'succeeded' })
    await following
    expect(seen.map((e) => e.seq)).toEqual(seen.map((_, i) => i + 1))
    expect(seen.map((e) => e.terminal)).toEqual([...seen.slice(1).map(() => false), true])
    expect(seen).toEqual(await client.listEvents(run))
    // Whoever comes late has the same, and whoever had all of it already is let go.
    const late: unknown[] = []
    for await (const event of client.followEvents(run, { afterSeq: 2 })) late.push(event)
    expect(late).toEqual(seen.slice(2))
    for await (const event of client.followEvents(run, { afterSeq: seen.length })) expect(event).toBe('nothing')
  })

  test('waiting has bounds: its own time, the absence of the server, and its caller', async () => {
    const run = await gated(['never'])
    await reaches(run, 'never', 'running')
    const over = client.waitForRun(run, { timeoutMs: 200 })
    await expect(over).rejects.toMatchObject({ code: 'client.wait_timed_out', evidence: { timeoutMs: 200 } })
    const leaving = new AbortController()
    const left = client.waitForRun(run, { signal: leaving.signal })
    leaving.abort(new Error('I leave'))
    await expect(left).rejects.toThrow('I leave')
    await client.cancelRun(run)
    expect(await client.waitForRun(run)).toMatchObject({ state: 'canceled' })
    await up.stop()
    const absent = client.waitForRun(run, { absenceMs: 300 })
    await expect(absent).rejects.toMatchObject({ code: 'client.server_unreachable', evidence: { layer: 'tcp' } })
    await expect(client.waitForRun(run, { timeoutMs: 300 })).rejects.toMatchObject({ code: 'client.wait_timed_out' })
    await start()
    const unknown = client.waitForRun('run_00000000000000000000000000')
    await expect(unknown).rejects.toMatchObject({ code: 'run.not_found' })
  })

  test('a watch goes on where it was cut, and begins anew with a list when the server does not know its place', async () => {
    const changes: ResourceChange[] = []
    const leaving = new AbortController()
    const watching = (async () => {
      for await (const change of client.resources.watch('Workflow', { signal: leaving.signal })) changes.push(change)
    })()
    const told = () =>
      changes.map((c) => [
        c.type,
        c.type === 'listed' ? c.resources.map((r) => r.metadata.name) : c.resource.metadata.name,
      ])
    const apply = (name: string) => client.resources.apply(JSON.stringify(workflow(name)))
    const saw = (count: number) => eventually(() => changes.length === count, { ...WITHIN, what: `${count} changes` })
    await apply('a')
    await apply('b')
    await saw(2)
    await up.kill9()
    await start()
    await client.resources.remove({ kind: 'Workflow', namespace: 'default', name: 'a' })
    await apply('c')
    await saw(4)
    expect(told()).toEqual([
      ['added', 'a'],
      ['added', 'b'],
      ['deleted', 'a'],
      ['added', 'c'],
    ])
    // Another database stands in for one that was restored from a back-up: the cursor lies beyond what it knows.
    await up.stop()
    await start('restored')
    await saw(5)
    await apply('d')
    await saw(6)
    expect(told().slice(4)).toEqual([
      ['listed', []],
      ['added', 'd'],
    ])
    leaving.abort()
    await expect(watching).rejects.toThrow()
  })

  test('a list that comes in pages is read to its end', async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await client.resources.apply(JSON.stringify(workflow(name)))
    const names: string[] = []
    const read = (cursor: string | undefined) =>
      client.resources.list('Workflow', { limit: 2, ...(cursor === undefined ? {} : { cursor }) })
    for await (const one of itemsOf(read)) names.push(one.metadata.name)
    expect(names).toEqual(['a', 'b', 'c', 'd', 'e'])
  })
})
