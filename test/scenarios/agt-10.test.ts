import { describe, expect, test } from 'vitest'
import { startAgents } from './agents.ts'

describe('AGT-10: an agent goes in circles', () => {
  const tools = { look: { type: 'http', http: { url: 'http://127.0.0.1:9/' }, allowPrivateAddresses: true, retry: 0 } }

  test('its turns are used up: a failure, never a success', async () => {
    const scene = await startAgents()
    const replies = Array.from({ length: 8 }, (_, n) => ({
      text: `turn ${n}`,
      toolCalls: [{ name: 'look', input: { n } }],
    }))
    const run = await scene.ask({ agent: { limits: { maxTurns: 4 } }, tools, model: { mock: { replies } } })
    expect(run.state).toBe('failed')
    expect(run.stepList[0]?.failure).toMatchObject({
      code: 'agent.turn_limit',
      evidence: { maxTurns: 4, lastText: 'turn 3' },
    })
    const shown = await scene.orrery('runs', 'show', run.id)
    expect(shown.stdout).toContain('agent.turn_limit')
    expect((await scene.orrery('explain', 'agent.turn_limit')).stdout).toContain('maxTurns')
  })

  test('it makes the same call again and again: it is ended before its turns are', async () => {
    const scene = await startAgents()
    const replies = [{ toolCalls: [{ name: 'look', input: { at: 1 } }] }]
    const run = await scene.ask({
      agent: { limits: { maxTurns: 50, maxRepeats: 2 } },
      tools,
      model: { mock: { replies } },
    })
    expect(run.stepList[0]?.failure).toMatchObject({
      code: 'agent.loop_detected',
      evidence: { tools: ['look'], repeats: 3, input: { at: 1 } },
    })
    const journal = await scene.journal(run.id, 'write')
    expect(journal.filter((entry) => entry['kind'] === 'tool_asked')).toHaveLength(3)
  })

  test('and a retry begins anew, with all of its turns', async () => {
    const scene = await startAgents()
    const replies = [{ toolCalls: [{ name: 'look' }] }]
    const run = await scene.ask({ agent: { limits: { maxTurns: 2 } }, tools, model: { mock: { replies } } })
    expect(run.state).toBe('failed')
    await scene.up.client.retryRun(run.id)
    expect(await scene.ended(run.id)).toMatchObject({ state: 'failed', failure: {} })
    const journal = await scene.journal(run.id, 'write')
    expect(journal.filter((entry) => entry['kind'] === 'model_asked')).toHaveLength(4)
  })
})
