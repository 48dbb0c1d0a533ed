import { describe, expect, test } from 'vitest'
import { traceIdOfId } from '../../src/base/trace.ts'
import { eventually } from '../support/eventually.ts'
import { linesOf, startObserved } from './observed.ts'
import { endedRun, WITHIN, workflowOf } from './rig.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'

/** Ignores its end and is given up: the worker has something to say about it. */
const deafStep = (dir: string) => ({
  name: 'deaf',
  function: 't.gate',
  with: { dir, name: 'deaf', isDeaf: true },
  timeout: '200ms',
})

describe('OBS-3: from a line to its trace, run and step', () => {
  test('every line said while a request is served or a step is worked on carries the ids; orrery logs --trace finds all of them', async () => {
    const scene = await startObserved({ logs: true })
    const { up, worker } = scene
    const send = (path: string, init: RequestInit = {}) =>
      fetch(`${up.address}${path}`, {
        ...init,
        headers: {
          authorization: `Bearer ${up.token}`,
          'content-type': 'application/json',
          traceparent: `00-${TRACE}-${SPAN}-01`,
          ...(init.headers as Record<string, string>), // this test's own
        },
      })
    const response = await send('/v1/runs', {
      method: 'POST',
      body: JSON.stringify({ workflow: workflowOf([deafStep(scene.dir)]) }),
    })
    const { id } = (await response.json()) as { id: string } // a run was created
    expect((await endedRun(up.client, id)).state).toBe('failed')
    // A request that is refused says so at debug level, with what it was about.
    const refused = await send(`/v1/runs/${id}:cancel`, { method: 'POST', headers: { 'x-request-id': 'mine-1' } })
    expect(refused.status).toBe(409)

    const said = await eventually(() => linesOf(up.process.stderr()).find((l) => l['request_id'] === 'mine-1'), WITHIN)
    expect(said).toMatchObject({
      component: 'server',
      message: 'request refused',
      request_id: 'mine-1',
      trace_id: TRACE,
      span_id: expect.stringMatching(/^[\da-f]{16}$/),
      run_id: id,
    })
    const ofStep = await eventually(() => linesOf(worker.stderr()).find((l) => l['run_id'] === id), WITHIN)
    expect(ofStep).toMatchObject({
      component: 'worker',
      trace_id: TRACE,
      span_id: expect.stringMatching(/^[\da-f]{16}$/),
      run_id: id,
      step: 'deaf',
      fence: 1,
      worker_id: 'w1',
    })

    const found = await eventually(async () => {
      const shown = await scene.orrery(['logs', '--log-dir', scene.logDir, '--trace', TRACE, '--json'])
      const lines = linesOf(shown.stdout)
      return new Set(lines.map((l) => l['component'])).size === 2 ? lines : null
    }, WITHIN)
    expect(found.every((l) => l['trace_id'] === TRACE || l['run_id'] === id)).toBe(true)
    expect(found.map((l) => l['component'])).toEqual(expect.arrayContaining(['server', 'worker']))
  })

  test('a run that came without a trace has its own, made of its id', async () => {
    const scene = await startObserved({ logs: true })
    const { up } = scene
    const { id } = await up.client.createRun({ workflow: workflowOf([deafStep(scene.dir)]) })
    await endedRun(up.client, id)
    const trace = traceIdOfId(id)
    const line = await eventually(async () => {
      const shown = await scene.orrery(['logs', '--log-dir', scene.logDir, '--trace', trace])
      return shown.code === 0 ? shown.stdout.split('\n').find((l) => l.includes('step=deaf')) : null
    }, WITHIN)
    expect(line).toContain(`trace_id=${trace}`)
    expect(line).toContain(`run_id=${id}`)
    expect(line).toMatch(/^worker \d\d:\d\d:\d\d\.\d{3} warn/)
  })
})
