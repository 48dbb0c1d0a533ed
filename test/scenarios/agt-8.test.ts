import { describe, expect, test } from 'vitest'
import { startAgents } from './agents.ts'

const outputSchema = { type: 'object', required: ['n'], properties: { n: { type: 'integer' } } }

describe('AGT-8: the answer of an agent is no answer', () => {
  test('an answer that is put right in time is the output', async () => {
    const scene = await startAgents()
    const replies = [{ text: 'about three' }, { text: '{"n":"3"}' }, { text: '{"n":3}' }]
    const run = await scene.ask({ agent: { outputSchema, repairs: 2 }, model: { mock: { replies } } })
    expect(run).toMatchObject({ state: 'succeeded', stepList: [{ output: { n: 3 } }] })
  })

  test('one that stays empty, no JSON, or against its schema fails, with the raw text in what is shown', async () => {
    const scene = await startAgents()
    for (const [text, code] of [
      ['   ', 'output.empty'],
      ['about three', 'output.not_json'],
      ['{"n":"three"}', 'output.schema_violation'],
    ] as const) {
      const run = await scene.ask({ agent: { outputSchema, repairs: 1 }, model: { mock: { replies: [{ text }] } } })
      expect(run.state).toBe('failed')
      expect(run.stepList[0]?.failure).toMatchObject({ code, evidence: { output: text, repairs: 1 } })
      const shown = await scene.orrery('runs', 'show', run.id)
      expect(shown.stdout).toContain(code)
      if (text.trim() !== '') expect(shown.stdout).toContain(text.slice(0, 8).replaceAll('"', '').slice(0, 1))
    }
  })

  test('what comes after it does not get nothing in its place: it is blocked', async () => {
    const scene = await startAgents()
    await scene.ask({ agent: { outputSchema, repairs: 0 }, model: { mock: { replies: [{ text: 'three' }] } } })
    await scene.apply(`apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: chain }
spec:
  steps:
    - { name: write, agent: writer, with: { prompt: Go. } }
    - { name: use, needs: [write], command: [echo, '\${{ steps.write.output.n }}'] }
`)
    const run = await scene.run('chain')
    expect(run.stepList).toMatchObject([
      { state: 'failed', failure: { code: 'output.not_json' } },
      { state: 'blocked', failure: { code: 'step.upstream_failed' } },
    ])
  })

  test('one that a judge does not accept fails with its reason', async () => {
    const scene = await startAgents()
    const replies = [{ when: 'task', json: { ok: false, reason: 'It does not rhyme.' } }, { text: 'A text.' }]
    const run = await scene.ask({
      agent: { check: { criteria: 'It rhymes.', retries: 1 } },
      model: { mock: { replies } },
    })
    expect(run.stepList[0]?.failure).toMatchObject({
      code: 'output.check_failed',
      evidence: { reason: 'It does not rhyme.', output: 'A text.' },
    })
  })
})
