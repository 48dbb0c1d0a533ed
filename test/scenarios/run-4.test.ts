import { expect, test } from 'vitest'
import type { JsonObject } from '../../src/base/index.ts'
import type { ProblemDetails } from '../../src/contract/api-types.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene, refused, workflowOf, writeBelow } from './rig.ts'

const step = (name: string, needs: string[] = []): JsonObject => ({ name, function: 't.echo', needs })

describeWithPostgres('RUN-4: the graph of a workflow is wrong', (postgres) => {
  test.for<[what: string, steps: JsonObject[], code: string, words: string[], nearest?: string]>([
    ['a cycle', [step('a', ['c']), step('b', ['a']), step('c', ['b'])], 'workflow.cycle', ['a', 'b', 'c', '→']],
    ['a step that needs itself', [step('a', ['a'])], 'workflow.cycle', ['a']],
    ['an unknown need', [step('build'), step('test', ['biuld'])], 'workflow.reference_unknown', ['biuld'], 'build'],
    ['a name twice', [step('a'), step('b'), step('a')], 'workflow.duplicate_step', ['a']],
  ])('%s is refused with its place, and nothing is stored', async ([, steps, code, words, nearest]) => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const response = await fetch(`${scene.address}/v1/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${scene.adminToken}`, 'content-type': 'application/json' },
      body: JSON.stringify({ workflow: workflowOf(steps) }),
    })
    expect(response.status).toBe(400)
    const problem = (await response.json()) as ProblemDetails // what the test looks at
    expect(problem).toMatchObject({ code, problems: [{ code, path: expect.stringContaining('spec.steps[') }] })
    for (const word of words) expect(problem.problems?.[0]?.message).toContain(word)
    if (nearest) expect(problem.problems?.[0]?.nearest).toBe(nearest)

    const file = writeBelow(scene.dir, 'flow.yaml', JSON.stringify(workflowOf(steps), null, 2))
    const { exit, failure } = await refused(['run', file, '--server', scene.address, '--token', scene.adminToken])
    expect(exit).toBe(65)
    expect(failure).toMatchObject({
      code,
      evidence: { problems: [{ line: expect.any(Number), column: expect.any(Number) }] },
    })
    expect(await scene.db.query('select hash from definition')).toEqual([])
    expect(await scene.db.query('select id from run')).toEqual([])
  })

  test('all of them at once; mended, the run goes through', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const steps = [step('a', ['b']), step('b', ['a']), step('c', ['nowhere']), step('c')]
    const file = writeBelow(scene.dir, 'flow.yaml', JSON.stringify(workflowOf(steps), null, 2))
    const { exit, failure } = await refused(['run', file, '--server', scene.address, '--token', scene.adminToken])
    expect(exit).toBe(65)
    expect(failure.code).toBe('manifest.invalid')
    const codes = (failure.evidence['problems'] as { code: string }[]).map((p) => p.code)
    expect(codes.toSorted()).toEqual(['workflow.cycle', 'workflow.duplicate_step', 'workflow.reference_unknown'])

    await scene.startWorker()
    const good = [step('a'), step('b', ['a']), step('c', ['b'])]
    expect(await scene.ended(await scene.start(good))).toMatchObject({ state: 'succeeded' })
  })
})
