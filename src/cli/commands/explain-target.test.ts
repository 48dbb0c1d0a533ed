import { describe, expect, test } from 'vitest'
import { failureRecord } from '../../domain/failure.ts'
import { reasonOfFailure, waitReason } from '../../domain/reasons/reason.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { at, RUN_ID, runView, stepView } from '../testing/scripted-client.ts'

const unmet = reasonOfFailure(
  failureRecord('dispatch.requirements_unmet', 'waiting 5 s for a worker', {
    evidence: {
      requirements: ['backend function', 'label gpu=yes'],
      workers: [
        { worker: 'w1', state: 'live', lacks: ['label gpu=yes'], has: { 'label gpu=yes': 'label GPU=yes' } },
        { worker: 'w2', state: 'draining', lacks: ['label gpu=yes'] },
      ],
      nearMisses: [{ worker: 'w1', wanted: 'label gpu=yes', has: 'label GPU=yes', differs: 'case' }],
    },
    remediation: 'Correct the step or the worker.',
  }),
  at(0),
)
const dependency = waitReason('dependency', 'waiting for train', {
  evidence: { needs: [{ step: 'train', state: 'queued' }], open: 1, of: 1 },
  remediation: 'It goes on when they have ended.',
  since: at(0),
})

function waiting(): CliHarness {
  const cli = new CliHarness()
  cli.clock.advance(5_000)
  const train = stepView({ name: 'train', state: 'queued', reason: unmet })
  const report = stepView({ name: 'report', needs: ['train'], reason: dependency })
  const reason = { ...unmet, message: `step train: ${unmet.message}`, step: 'train' }
  cli.client.runs = [runView({ state: 'running', reason, stepList: [train, report] })]
  cli.client.steps = [stepView({ name: 'measure[7]', state: 'queued', reason: unmet })]
  return cli
}

describe('orrery explain of a run or a step', () => {
  test('a run: the reason that decides it, the table, what to do, what to run next, and every open step', async () => {
    const cli = waiting()
    expect(await cli.run('explain', `run/${RUN_ID}`)).toBe(0)
    expect(cli.out).toBe(
      [
        `run ${RUN_ID} is running  for 5.0s`,
        '✗ dispatch.requirements_unmet  No connected worker meets what the step requires',
        '  step train: waiting 5 s for a worker',
        '  nearMiss  w1 has label GPU=yes, wanted is label gpu=yes: the letter case differs',
        '  WORKER  STATE     label gpu=yes',
        '  w1      live      has label GPU=yes',
        '  w2      draining  no',
        '  → Correct the step or the worker.',
        `    orrery explain step/${RUN_ID}/train`,
        `    orrery runs show ${RUN_ID}`,
        '',
        'STEP    STATE    WAITS FOR                    WHY',
        'train   queued   dispatch.requirements_unmet  waiting 5 s for a worker',
        'report  pending  dependency                   waiting for train',
        '',
      ]
        .map((line) => line.trimEnd())
        .join('\n'),
    )
  })

  test('a step, of a later page as well; as JSON', async () => {
    const cli = waiting()
    await cli.run('explain', `step/${RUN_ID}/report`)
    expect(cli.out).toContain('◌ dependency  Steps that it needs have not ended')
    expect(cli.out).toMatch(/STEP +STATE\n {2}train +queued/)
    const json = waiting()
    await json.run('explain', `step/${RUN_ID}/measure[7]`, '--json')
    expect(json.jsonLines).toMatchObject([{ run: RUN_ID, step: 'measure[7]', reason: { code: unmet.code } }])
  })

  test('a step that does not exist, and a thing that cannot be explained, are said to be so', async () => {
    const cli = waiting()
    expect(await cli.run('explain', `step/${RUN_ID}/nobody`)).toBe(2)
    expect(cli.err).toContain('step.not_found')
    expect(await cli.run('explain', 'worker/w1')).toBe(2)
    expect(cli.err).toContain('Write run/RUN, step/RUN/STEP or a failure code.')
  })

  test('what has ended says how', async () => {
    const cli = new CliHarness()
    const failure = failureRecord('step.exit_nonzero', 'running step build')
    const step = stepView({ name: 'build', state: 'failed', failure })
    cli.client.runs = [runView({ state: 'failed', failure, stepList: [step] })]
    await cli.run('explain', `run/${RUN_ID}`)
    expect(cli.out).toContain(`run ${RUN_ID} failed`)
    await cli.run('explain', `step/${RUN_ID}/build`)
    expect(cli.out).toContain('step.exit_nonzero')
  })

  test('runs show tells what someone has to act on, and no more than a line when all is well', async () => {
    const cli = waiting()
    await cli.run('runs', 'show', RUN_ID)
    expect(cli.out).toContain('step train is queued  for 5.0s')
    expect(cli.out).not.toContain('step report is pending')
    const well = new CliHarness()
    const queued = waitReason('queued', 'in its queue', { remediation: 'Nothing.', since: at(0) })
    const reason = { ...queued, message: 'step a: in its queue', step: 'a' }
    well.client.runs = [runView({ state: 'running', reason, stepList: [stepView({ name: 'a', reason: queued })] })]
    await well.run('runs', 'show', RUN_ID)
    expect(well.out).toContain('◌ step a: in its queue')
  })
})
