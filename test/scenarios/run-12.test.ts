import { expect, test } from 'vitest'
import { Secret } from '../../src/base/index.ts'
import { createClient, httpTransport } from '../../src/client/index.ts'
import { eventually } from '../support/eventually.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, startProxy, WITHIN } from './rig.ts'

describeWithPostgres('RUN-12: the event stream is cut by a proxy', (postgres) => {
  const steps = (dir: string, names: string[]) =>
    names.map((name, i) => ({
      name,
      function: 't.gate',
      with: { dir, name },
      needs: names.slice(Math.max(0, i - 1), i),
    }))

  test('a client goes on after the last event it had: no gap, no repeat, and an end', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const proxy = await startProxy(scene.address)
    await scene.startWorker()
    const names = ['one', 'two', 'three', 'four']
    const run = await scene.start(steps(scene.dir, names))
    const far = createClient({
      transport: httpTransport({ address: proxy.address }),
      token: new Secret(scene.adminToken),
    })
    const seen: { seq: number; terminal: boolean }[] = []
    const following = (async () => {
      for await (const { seq, terminal } of far.followEvents(run)) seen.push({ seq, terminal })
    })()
    // The first connection must succeed; from then on every cut is waited out.
    await eventually(() => seen.length > 0, WITHIN)
    for (const name of names) {
      await scene.stepWith(run, name, (s) => s.state === 'running')
      const before = proxy.connections()
      proxy.cut()
      scene.open(name) // falls into the gap
      await scene.stepWith(run, name, (s) => s.state === 'succeeded')
      proxy.mend()
      await eventually(() => proxy.connections() > before, WITHIN)
    }
    await following
    const all: number[] = []
    for await (const { seq } of scene.client.followEvents(run)) all.push(seq)
    expect(seen.map((e) => e.seq)).toEqual(all)
    expect(all).toEqual(all.map((_, i) => i + 1))
    expect(seen.map((e) => e.terminal)).toEqual([...all.slice(1).map(() => false), true])
    expect(proxy.connections()).toBeGreaterThan(names.length)
  })

  test('Last-Event-ID goes on behind that event, over plain HTTP', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker()
    const run = await scene.start([{ name: 'only', function: 't.echo' }])
    await scene.ended(run)
    const read = async (headers: Record<string, string>) => {
      const response = await fetch(`${scene.address}/v1/runs/${run}/events`, {
        headers: { authorization: `Bearer ${scene.adminToken}`, accept: 'text/event-stream', ...headers },
      })
      const text = await response.text()
      return [...text.matchAll(/^id: ?(\d+)$/gm)]
        .map(([, id]) => Number(id))
        .concat(/^event: ?end$/m.test(text) ? [0] : [])
    }
    const all = await read({})
    expect(all.at(-1)).toBe(0)
    expect(await read({ 'last-event-id': String(all[0]) })).toEqual(all.slice(1))
  })
})
