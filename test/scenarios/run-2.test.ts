import { expect, test } from 'vitest'
import type { ProblemDetails } from '../../src/contract/api-types.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, refused, workflowOf, writeBelow } from './rig.ts'

const fan = (dir: string, maxParallel: unknown) => [
  {
    name: 'measure',
    function: 't.gate',
    forEach: [0, 1, 2],
    maxParallel: maxParallel as number, // what is wrong with it is the point
    with: { dir, name: 'measure${{ item }}' },
  },
]

describeWithPostgres('RUN-2: a limit on what runs at once is wrong, or lower than the graph needs', (postgres) => {
  test.for([[0], [-2], [1.5]])('maxParallel %s is refused with its place, and nothing is stored', async ([value]) => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const workflow = workflowOf(fan(scene.dir, value))
    const response = await fetch(`${scene.address}/v1/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${scene.adminToken}`, 'content-type': 'application/json' },
      body: JSON.stringify({ workflow }),
    })
    expect(response.status).toBe(400)
    expect((await response.json()) as ProblemDetails).toMatchObject({
      code: 'workflow.concurrency_invalid',
      problems: [{ code: 'workflow.concurrency_invalid', path: 'spec.steps[0].maxParallel' }],
    })
    const file = writeBelow(scene.dir, 'flow.yaml', JSON.stringify(workflow, null, 2))
    const { exit, failure } = await refused(['run', file, '--server', scene.address, '--token', scene.adminToken])
    expect(exit).toBe(65)
    expect(failure).toMatchObject({ code: 'workflow.concurrency_invalid', evidence: { problems: [{ line: 20 }] } })
    expect(await scene.db.query('select hash from definition')).toEqual([])
  })

  test('lower than the graph needs, it is named as the reason of waiting, with its source and who holds the places', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'wide', capacity: 4 })
    const run = await scene.start(fan(scene.dir, 2))
    const held = await scene.stepWith(run, 'measure[2]', (s) => s.reason?.code === 'max_parallel')
    expect(held).toMatchObject({
      state: 'pending',
      reason: {
        evidence: {
          limit: 'maxParallel',
          value: 2,
          source: 'maxParallel of step measure in the workflow',
          holders: ['measure[0]', 'measure[1]'],
        },
        remediation: expect.stringContaining('Raise maxParallel'),
      },
    })
    const told = await scene.orrery('explain', `step/${run}/measure[2]`)
    expect(told.stdout).toContain('waiting for one of 2 places of measure: measure[0], measure[1] hold them')

    for (const i of [0, 1, 2]) scene.open(`measure${i}`)
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
    expect(await scene.getStep(run, 'measure[2]')).toMatchObject({ reason: null })
  })
})
