import { expect, test } from 'vitest'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { openScene } from './rig.ts'

describeWithPostgres('WRK-3: no worker has what the step requires', (postgres) => {
  test('a table of worker and requirement says what each lacks; a worker that has it takes the step', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'plain', labels: ['region=eu'] })
    const run = await scene.start([
      { name: 'train', function: 't.echo', with: 1, runsOn: { gpu: 'yes', region: 'eu' } },
    ])

    const step = await scene.stepWith(run, 'train', (s) => s.reason?.code === 'dispatch.requirements_unmet')
    expect(step.reason).toMatchObject({
      since: step.queuedAt,
      evidence: {
        requirements: ['namespace default', 'backend function', 'module t', 'label gpu=yes', 'label region=eu'],
        workers: [{ worker: 'plain', state: 'live', lacks: ['label gpu=yes'] }],
      },
    })
    expect((await scene.client.getRun(run)).reason).toMatchObject({
      code: 'dispatch.requirements_unmet',
      step: 'train',
    })
    const shown = await scene.orrery('runs', 'show', run)
    expect(shown.stdout).toMatch(/WORKER\s+STATE\s+label gpu=yes\n\s+plain\s+live\s+no/)
    expect(shown.stdout).toContain(`orrery explain step/${run}/train`)

    await scene.startWorker({ name: 'able', labels: ['gpu=yes', 'region=eu'] })
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded', stepList: [{ worker: 'able', reason: null }] })
  })

  test.for([
    ['letter case', { GPU: 'yes' }, 'gpu=yes', /only letter case differs/],
    ['spelling', { accelerator: 'a100' }, 'acelerator=a100', /only the spelling differs/],
  ] as const)('a near miss in %s is pointed out', async ([, runsOn, label, said]) => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'almost', labels: [label] })
    const run = await scene.start([{ name: 'train', function: 't.echo', runsOn: { ...runsOn } }])
    const step = await scene.stepWith(run, 'train', (s) => s.reason?.code === 'dispatch.requirements_unmet')
    expect(step.reason).toMatchObject({
      remediation: expect.stringMatching(said),
      evidence: { nearMisses: [{ worker: 'almost', has: `label ${label}` }] },
    })
    const told = await scene.orrery('explain', `step/${run}/train`)
    expect(told.stdout).toContain(`has label ${label}`)
    expect(told.stdout.replaceAll(/\s+/g, ' ')).toMatch(said)

    const [wanted] = Object.entries(runsOn)
    await scene.startWorker({ name: 'mended', labels: [`${wanted?.[0]}=${wanted?.[1]}`] })
    expect(await scene.ended(run)).toMatchObject({ state: 'succeeded' })
  })

  test('a module that no worker has loaded is told as such', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    await scene.startWorker({ name: 'plain' })
    const spec = { modules: { T: './functions.ts' } }
    const run = await scene.start([{ name: 'only', function: 'T.echo' }], spec)
    const step = await scene.stepWith(run, 'only', (s) => s.reason?.code === 'dispatch.requirements_unmet')
    expect(step.reason?.remediation).toContain('module t, the step wants module T: only letter case differs')
  })
})
