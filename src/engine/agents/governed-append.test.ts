import { beforeEach, describe, expect, test } from 'vitest'
import { noMetrics } from '../../base/metrics.ts'
import type { JsonObject } from '../../base/json.ts'
import { silentLog } from '../../base/log.ts'
import type { Assignment } from '../../contract/exchange.ts'
import type { WorkerEntry } from '../../domain/agents/journal.ts'
import { readAgent } from '../../domain/kinds/agent.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { readTool } from '../../domain/kinds/tool.ts'
import type { Cost } from '../../domain/prices.ts'
import { agentNode, boundOf } from '../../domain/testing/definitions.ts'
import type { RunningEngine } from '../create-engine.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig, WORKER } from '../testing/rig.ts'

/** The append with the rules as they are stored, and the budgets as well: nothing is scripted. */
let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
let a: Assignment
let n: number
let words: string[]
useRig((given) => {
  rig = given
})

const BOUND = boundOf({
  agents: {
    writer: {
      spec: readAgent({ model: 'gpt', instructions: 'x', tools: ['look', 'pay'], delegates: ['reader'] }),
      instructions: '',
      definition: null,
    },
  },
  tools: {
    look: readTool({ type: 'command', description: 'Looks.', command: { argv: ['true'] } }),
    pay: readTool({ type: 'command', description: 'Pays.', command: { argv: ['true'] }, operation: 'delete' }),
  },
})

beforeEach(async () => {
  words = []
  const count = (name: string, _: number, labels: Record<string, string> = {}) => {
    if (name === 'orrery_rule_verdicts_total') words.push(`${labels['about']} ${labels['verdict']}`)
  }
  engine = rig.engine({ metrics: { ...noMetrics, count } })
  await declare('ModelEndpoint', 'gpt', { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hi' }] } })
  worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
  await rig.start(engine, await rig.put(engine, [agentNode('write')], { name: 'report', bound: BOUND }))
  a = await worker.pollFirst()
  n = 0
})

async function declare(kind: string, name: string, spec: JsonObject): Promise<void> {
  const text = JSON.stringify({ apiVersion: 'orrery.dev/v1', kind, metadata: { name }, spec })
  await engine.resources.apply(ADMIN, parseResources(text, { file: 'm', namespace: null }), { dryRun: false })
}
const append = (...entries: WorkerEntry[]) => appendOn(engine, ...entries)
const appendOn = (server: RunningEngine, ...entries: WorkerEntry[]) =>
  server.append(WORKER, { session: worker.session, step: a.step, fence: a.fence, n: ++n, entries })
const modelAsked = (call: string, tokens: number): Extract<WorkerEntry, { kind: 'model_asked' }> => ({
  kind: 'model_asked',
  call,
  turn: 1,
  purpose: 'turn',
  agent: 'writer',
  endpoint: 'gpt',
  tokens: { input: tokens, output: 0 },
})
const ask = async (tool: string, more: Partial<Extract<WorkerEntry, { kind: 'tool_asked' }>> = {}) => {
  const call = `c${n + 1}`
  const asked = { turn: 1, agent: 'writer', operation: 'read' as const, input: { to: 'x' }, repeatable: false, ...more }
  const answer = await append({ kind: 'tool_asked', call, tool, ...asked })
  return answer.verdicts[call]
}
const kinds = async () => {
  const { entries } = await engine.readJournal(WORKER, {
    session: worker.session,
    step: a.step,
    fence: a.fence,
    from: 1,
  })
  return entries.map(({ entry }) => entry.kind)
}

const answered = (call: string, tokens = 15, more: { endpoint?: string; cost?: Cost } = {}): WorkerEntry => ({
  kind: 'model_answered',
  call,
  result: {
    ...{ endpoint: 'gpt', provider: 'mock', model: 'm', text: 'hi', toolCalls: [], finish: 'stop' },
    usage: {
      ...{ inputTokens: tokens - 8, outputTokens: 8, cachedInputTokens: 0, cacheWriteTokens: 0, reasoningTokens: 0 },
      isEstimated: false,
    },
    ...{ cost: null, warnings: [], tried: [], totalMs: 1 },
    ...more,
  },
})
const statementsOf = async (work: () => Promise<unknown>): Promise<string[]> => {
  const statements: string[] = []
  rig.faults.before = (name) => void statements.push(name)
  await work()
  delete rig.faults.before
  return statements
}

describe('what the rules allow beforehand', () => {
  test('is recorded in one statement, with what it took', async () => {
    await declare('Policy', 'readers', { tools: { denied: [{ tools: ['rm'] }] } })
    await append(modelAsked('m1', 10))
    const statements = await statementsOf(async () => {
      await append(answered('m1'))
      expect(await ask('look')).toEqual({ verdict: { verdict: 'allow', rule: 'default' }, approval: null })
      await append(
        { kind: 'tool_answered', call: 'c3', result: { ok: true, output: 1 }, ms: 1, cut: 0 },
        modelAsked('m2', 10),
      )
    })
    expect(statements).toEqual(['append_and_settle_at', 'append_at', 'append_at'])
    expect(await kinds()).toEqual([
      ...['model_asked', 'model_answered', 'tool_asked', 'verdict', 'tool_answered', 'model_asked'],
    ])
    expect(
      (await engine.listCosts(ADMIN, { by: 'agent', namespace: null, since: null, until: null, limit: 10 })).items,
    ).toMatchObject([{ name: 'writer', calls: 1, inputTokens: 7, outputTokens: 8 }])
  })

  test('and was recorded before is answered as it was', async () => {
    const first = await append(modelAsked('m1', 10))
    n = 0
    expect(await append(modelAsked('m1', 10))).toEqual(first)
    expect(await kinds()).toEqual(['model_asked'])
  })

  test('is counted once, also when a budget takes a transaction', async () => {
    await append(modelAsked('m1', 10))
    await ask('look')
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 1_000 } })
    await append(modelAsked('m2', 10))
    await declare('Policy', 'no-looks', { tools: { denied: [{ tools: ['look'] }] } })
    await ask('look')
    expect(words).toEqual(['model allow', 'tool allow', 'model allow', 'tool deny'])
  })

  test('is recorded once and answered, though another append has heard of a newer version meanwhile', async () => {
    await ask('look')
    words = []
    let isFirst = true
    const statements: string[] = []
    rig.faults.after = async (name) => {
      statements.push(name)
      if (name !== 'append_at' || !isFirst) return
      isFirst = false
      await declare('Policy', 'readers', { tools: { denied: [{ tools: ['rm'] }] } })
      await ask('look')
    }
    expect(await append(modelAsked('m1', 10))).toMatchObject({ state: 'recorded', refused: null })
    expect(statements).not.toContain('hold_steps')
    expect(words).toEqual(['tool allow', 'model allow'])
  })

  test('is asked anew when a rule changes before it is recorded', async () => {
    await ask('look')
    let isChanged = false
    rig.faults.before = async (name) => {
      if (name !== 'append_at' || isChanged) return
      isChanged = true
      await declare('Policy', 'no-looks', { tools: { denied: [{ tools: ['look'] }] } })
    }
    expect(await ask('look')).toMatchObject({ verdict: { verdict: 'deny', rule: 'policy/no-looks' } })
    expect(isChanged).toBe(true)
  })

  test('goes by a transaction when resources change all the time', async () => {
    await ask('look')
    let changes = 0
    rig.faults.before = async (name) => {
      if (name === 'append_at') await declare('Policy', 'limits', { maxTokens: 1_000 + ++changes })
    }
    const statements: string[] = []
    rig.faults.after = (name) => void statements.push(name)
    expect(await ask('look')).toMatchObject({ verdict: { verdict: 'allow' } })
    expect(changes).toBe(2)
    expect(statements).toContain('append_entries')
  })

  test.each([
    ['a budget counts it', 'Budget', { window: 'day', limits: { tokens: 1_000 } }],
    ['a policy caps its tokens', 'Policy', { maxTokens: 1_000 }],
    ['a policy looks at the run', 'Policy', { appliesTo: { labels: 'tier=top' }, maxTokens: 1_000 }],
  ])('takes a transaction when %s', async (_, kind, spec) => {
    await declare(kind, 'some', spec)
    const statements = await statementsOf(() => append(modelAsked('m1', 10)))
    expect(statements).toContain('hold_steps')
    expect(await kinds()).toEqual(['model_asked'])
  })

  test('and is counted takes six statements, whatever rules there are; what it sets aside is what it may take', async () => {
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 100 } })
    await declare('Policy', 'caps', { maxTokens: 1_000 })
    await append(modelAsked('m1', 10))
    const counting = ['lock_counters', 'count_windows_time', 'count_windows_run', 'put_holds']
    expect(
      await statementsOf(() =>
        append(
          { kind: 'tool_answered', call: 'c', result: { ok: true, output: 1 }, ms: 1, cut: 0 },
          modelAsked('m2', 80),
        ),
      ),
    ).toEqual(['hold_steps', 'append_entries', ...counting])
    expect(words).toEqual(['model allow', 'model allow'])
    const { refused } = await append(modelAsked('m3', 11))
    expect(refused).toMatchObject({
      failure: { code: 'budget.exceeded', evidence: { budgets: [{ budget: 'default/some', held: 90, limit: 100 }] } },
      park: { type: 'budget' },
    })
    // What was set aside for the same call does not count twice.
    n--
    expect((await append(modelAsked('m2', 80))).refused).toBeNull()
  })

  test.each<[string, string, string, JsonObject, string]>([
    ['a policy that keeps the model from it', 'Policy', 'new', { models: { denied: ['gpt'] } }, 'policy.denied'],
    ['a policy that caps its run', 'Policy', 'new', { maxTokens: 5 }, 'policy.denied'],
    ['another budget', 'Budget', 'new', { window: 'day', limits: { tokens: 5 } }, 'budget.exceeded'],
    ['a smaller limit of its budget', 'Budget', 'some', { window: 'day', limits: { tokens: 5 } }, 'budget.exceeded'],
  ])('and is counted heeds %s of which the server has not heard', async (_, kind, name, spec, code) => {
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 100 } })
    await append(modelAsked('m1', 10))
    await append(modelAsked('m2', 10))
    await declare(kind, name, spec)
    const statements = await statementsOf(async () => {
      expect((await append(modelAsked('m3', 10))).refused).toMatchObject({ failure: { code } })
    })
    expect(statements).toContain('list_rules')
    // Now it has.
    expect((await append(modelAsked('m3', 10))).refused).toMatchObject({ failure: { code } })
    expect(await kinds()).toEqual(['model_asked', 'model_asked'])
  })

  test('takes no transaction when the budgets are for others', async () => {
    await declare('Budget', 'others', { window: 'day', limits: { tokens: 1 }, selector: { agents: ['reader'] } })
    await append(modelAsked('m1', 10))
    expect(await statementsOf(() => append(answered('m1'), modelAsked('m2', 10)))).toEqual(['append_and_settle_at'])
  })
})

describe('what a budget counts', () => {
  const budget = async (tokens: number, more: JsonObject = {}) => {
    await declare('Budget', 'some', { window: 'day', limits: { tokens }, alerts: [], ...more })
    await makeKnown()
  }
  /** Counts are kept of windows that a server knows for a minute. */
  const makeKnown = async (...servers: RunningEngine[]) => {
    for (const server of [...servers, engine]) await appendOn(server, modelAsked(`m0-${n}`, 0))
    await rig.advance(60_000)
    words = []
  }
  const asks = async (call: string, tokens: number, server = engine) =>
    (await appendOn(server, modelAsked(call, tokens))).refused

  test('is set aside in one statement by the count made before, and given back in another', async () => {
    await budget(1_000)
    await append(modelAsked('m1', 20))
    const statements = await statementsOf(async () => {
      await append(answered('m1'))
      await append(modelAsked('m2', 20))
      await append(answered('m2'), modelAsked('m3', 20))
    })
    expect(statements).toEqual(['append_and_settle_at', 'append_counted_at', 'append_counted_and_settle_at'])
    expect(words).toEqual(['model allow', 'model allow', 'model allow'])
    expect((await kinds()).slice(1)).toEqual([
      ...['model_asked', 'model_answered', 'model_asked', 'model_answered', 'model_asked'],
    ])
    expect(
      (await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name: 'some' })).status,
    ).toMatchObject({
      usage: { tokens: 30, heldTokens: 20 },
    })
  })

  test('in money is set aside by what it may cost at most', async () => {
    await declare('PriceTable', 'prices', { currency: 'EUR', rows: [{ model: 'm', input: 1_000, output: 1_000 }] })
    await declare('ModelEndpoint', 'gpt', {
      ...{ provider: 'mock', model: 'm', mock: { replies: [{ text: 'hi' }] }, prices: 'prices' },
    })
    await declare('Budget', 'some', { window: 'day', limits: { money: 0.1, currency: 'EUR' }, alerts: [] })
    await makeKnown()
    await append(modelAsked('m1', 20))
    expect(
      await statementsOf(async () => {
        await append(answered('m1', 20, { cost: { currency: 'EUR', amount: 0.02 } }))
        expect(await asks('m2', 60)).toBeNull()
      }),
    ).toEqual(['append_and_settle_at', 'append_counted_at'])
    expect(await asks('m3', 21)).toMatchObject({
      failure: { code: 'budget.exceeded', evidence: { budgets: [{ of: 'money', spent: 0.02, held: 0.06 }] } },
    })
    expect(await asks('m3', 20)).toBeNull()
  })

  test('by two servers is counted anew by each after the other, and no more passes than fits', async () => {
    const other = rig.engine()
    await budget(100)
    await makeKnown(other)
    for (let i = 1; i <= 10; i++) expect(await asks(`m${i}`, 10, i % 3 === 0 ? other : engine)).toBeNull()
    expect(await asks('m11', 1)).toMatchObject({ failure: { code: 'budget.exceeded' } })
    expect(await asks('m11', 1, other)).toMatchObject({ failure: { code: 'budget.exceeded' } })
  })

  test.each<[string, () => Promise<unknown>]>([
    ['more than was set aside for it', () => append(answered('m1', 60))],
    ['by another endpoint', () => append(answered('m1', 60, { endpoint: 'claude' }))],
    ['and told to another server', () => appendOn(rig.engine(), answered('m1', 60))],
  ])('and took %s is counted before anything else is set aside', async (_, spend) => {
    await budget(100)
    await append(modelAsked('m1', 20))
    await spend()
    expect(await asks('m2', 41)).toMatchObject({
      failure: { code: 'budget.exceeded', evidence: { budgets: [{ spent: 60, held: 0 }] } },
    })
    expect(await asks('m2', 40)).toBeNull()
  })

  test('by a policy alone is counted in the same way, for the run', async () => {
    await declare('Policy', 'caps', { maxTokens: 100 })
    await makeKnown()
    await append(modelAsked('m1', 20))
    expect(await statementsOf(() => asks('m2', 20))).toEqual(['append_counted_at'])
    await appendOn(rig.engine(), answered('m1', 60))
    expect(await asks('m3', 21)).toMatchObject({
      failure: { code: 'policy.denied', evidence: { spent: 60, held: 20 } },
    })
    expect(await asks('m3', 20)).toBeNull()
  })

  test('is told of when a share of the limit is reached, as by a count of every call', async () => {
    const told: string[] = []
    engine = rig.engine({ log: { ...silentLog, warn: (message) => void told.push(message) } })
    await budget(100, { alerts: [0.5] })
    for (let i = 1; i <= 5; i++) {
      await append(modelAsked(`m${i}`, 10))
      await append(answered(`m${i}`, 10))
      expect(told).toEqual([])
    }
    await append(modelAsked('m6', 10))
    expect(told).toHaveLength(1)
  })

  test('in a window that is over is counted in the next one', async () => {
    await budget(100)
    await append(modelAsked('m1', 60))
    await append(answered('m1', 60))
    await rig.advance(86_400_000)
    expect(await asks('m2', 100)).toBeNull()
  })

  test('takes a transaction when the count does not hold any more, and one statement again after it', async () => {
    const other = rig.engine()
    await budget(1_000)
    await makeKnown(other)
    await asks('m1', 10)
    await asks('m2', 10, other)
    expect(await statementsOf(() => asks('m3', 10))).toEqual([
      ...['append_counted_at', 'hold_steps', 'append_entries', 'lock_counters', 'count_windows_time', 'put_holds'],
    ])
    expect(await statementsOf(() => asks('m4', 10))).toEqual(['append_counted_at'])
  })

  test('is counted by every call while the budget, or its window, has not been known for long', async () => {
    const takesStatement = async () => {
      const statements = await statementsOf(() => append(modelAsked(`m${n}`, 1)))
      return statements.includes('append_counted_at')
    }
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 1_000 }, alerts: [] })
    expect([await takesStatement(), await takesStatement()]).toEqual([false, false])
    await rig.advance(60_000)
    expect([await takesStatement(), await takesStatement()]).toEqual([false, true])
    await rig.advance(86_400_000)
    expect([await takesStatement(), await takesStatement(), await takesStatement()]).toEqual([true, false, false])
  })

  test('and was recorded before is told as it was, and stays set aside, though it would not fit any more', async () => {
    const other = rig.engine()
    await budget(100)
    await makeKnown(other)
    await append(modelAsked('m1', 60))
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 50 }, alerts: [] })
    for (const server of [engine, other]) {
      n--
      expect((await appendOn(server, modelAsked('m1', 60))).refused).toBeNull()
    }
    const usage = async () =>
      (await engine.resources.get(ADMIN, { kind: 'Budget', namespace: 'default', name: 'some' })).status
    expect(await usage()).toMatchObject({ usage: { heldTokens: 60 } })
    await append(answered('m1', 60))
    expect(await usage()).toMatchObject({ usage: { tokens: 60, heldTokens: 0 } })
    expect(await asks('m2', 1)).toMatchObject({ failure: { code: 'budget.exceeded' } })
    expect((await kinds()).filter((kind) => kind === 'model_answered')).toHaveLength(1)
  })

  test('and was refused leaves what came with it, and may be asked again under the same number', async () => {
    await budget(10)
    const looked = {
      kind: 'tool_answered' as const,
      call: 'c',
      result: { ok: true as const, output: 1 },
      ms: 1,
      cut: 0,
    }
    expect((await append(looked, modelAsked('m1', 11))).refused).toMatchObject({ failure: { code: 'budget.exceeded' } })
    expect((await kinds()).slice(1)).toEqual(['tool_answered'])
    await declare('Budget', 'some', { window: 'day', limits: { tokens: 11 }, alerts: [] })
    n--
    expect((await append(looked, modelAsked('m1', 11))).refused).toBeNull()
    expect((await kinds()).slice(1)).toEqual(['tool_answered', 'model_asked'])
  })

  test('is told of though the transaction that noted it was undone', async () => {
    await budget(100, { alerts: [0.5] })
    await append(modelAsked('m1', 60))
    await append(answered('m1', 60))
    let isUndone = false
    rig.faults.after = (name) => {
      if (name !== 'put_holds' || isUndone) return
      isUndone = true
      throw new Error('undone')
    }
    await append(modelAsked('m2', 10)).catch(() => {})
    expect(isUndone).toBe(true)
    await append(modelAsked('m3', 10))
    await append(modelAsked('m4', 10))
    expect(await rig.db.query('select share from budget_alert')).toEqual([{ share: 0.5 }])
  })

  test('by a policy that was lifted meanwhile is counted anew', async () => {
    await declare('Policy', 'caps', { maxTokens: 100 })
    await makeKnown()
    await append(modelAsked('m1', 20))
    await append(answered('m1', 20))
    expect(await statementsOf(() => asks('m2', 1))).toEqual(['append_counted_at'])
    await declare('Policy', 'caps', { models: { denied: ['other'] } })
    await append(modelAsked('m3', 500))
    await append(answered('m3', 500))
    await declare('Policy', 'caps', { maxTokens: 100 })
    expect(await asks('m4', 30)).toMatchObject({ failure: { code: 'policy.denied', evidence: { spent: 520 } } })
  })

  test('of a rolling window is told of again though the transaction that forgot it was undone', async () => {
    await budget(100, { window: '24h', alerts: [0.5] })
    const spend = async (call: string, tokens: number) => {
      await append(modelAsked(call, tokens))
      await append(answered(call, tokens))
    }
    const notedAt = () => rig.db.query<{ at: Date }>('select at from budget_alert')
    await spend('m1', 60)
    await spend('m2', 8)
    await spend('m3', 8)
    const [first] = await notedAt()
    await rig.advance(25 * 3_600_000)
    let isUndone = false
    rig.faults.after = (name) => {
      if (name !== 'forget_alerts' || isUndone) return
      isUndone = true
      throw new Error('undone')
    }
    await append(modelAsked('m4', 40)).catch(() => {})
    expect(isUndone).toBe(true)
    await spend('m5', 40)
    expect(await notedAt()).toEqual([])
    await spend('m6', 60)
    await asks('m7', 8)
    const [second] = await notedAt()
    expect(second?.at.getTime()).toBeGreaterThan(first?.at.getTime() ?? 0)
  })

  test('is not ended by what calls spend that no budget counts', async () => {
    await budget(1_000, { selector: { endpoints: ['gpt'] } })
    await append(modelAsked('m1', 10))
    await appendOn(rig.engine(), answered('m1', 10, { endpoint: 'claude' }))
    expect(await statementsOf(() => asks('m2', 10))).toEqual(['append_counted_at'])
  })
})

describe('what an attempt is about to do', () => {
  test('is allowed, denied or asked about in the transaction that records it, and the journal has the word on it', async () => {
    expect(await ask('look')).toEqual({ verdict: { verdict: 'allow', rule: 'default' }, approval: null })
    await declare('Policy', 'no-looks', { tools: { denied: [{ tools: ['look'] }] } })
    expect(await ask('look')).toMatchObject({ verdict: { verdict: 'deny', rule: 'policy/no-looks' }, approval: null })
    expect(await kinds()).toEqual(['tool_asked', 'verdict', 'tool_asked', 'verdict'])
  })

  test('is not what the worker calls it: the class of a tool and what the agent is offered come from the run', async () => {
    const paid = await ask('pay', { operation: 'read' })
    expect(paid).toMatchObject({
      verdict: { verdict: 'approval', rule: 'default' },
      approval: expect.stringMatching(/^apr_/),
    })
    await declare('Policy', 'no-deletes', { tools: { denied: [{ tools: ['*'], operations: ['delete'] }] } })
    expect(await ask('pay', { operation: 'read' })).toMatchObject({ verdict: { rule: 'policy/no-deletes' } })
    expect(await ask('slack')).toMatchObject({ verdict: { code: 'tool.permission_denied', rule: 'agent/writer' } })
  })

  test('is denied when nobody of the name speaks in the step, though it be an agent of the run', async () => {
    for (const agent of ['stranger', 'reader']) {
      expect(await ask('look', { agent })).toMatchObject({
        verdict: {
          code: 'tool.permission_denied',
          rule: `agent/${agent}`,
          reason: expect.stringContaining(`makes no calls of look for agent ${agent}`),
          remediation: expect.stringContaining('handoffs'),
        },
      })
      const { refused } = await append({ ...modelAsked('m1', 10), agent })
      expect(refused).toMatchObject({
        failure: { code: 'policy.denied', evidence: { reason: `nobody of the name '${agent}' speaks in this step` } },
        park: null,
      })
    }
    expect(await kinds()).toEqual(['tool_asked', 'verdict', 'tool_asked', 'verdict'])
  })

  test('by giving work away is asked of the policies on delegation', async () => {
    expect(await ask('ask_reader', { operation: 'write' })).toMatchObject({
      verdict: { verdict: 'allow', rule: 'agent/writer' },
    })
    await declare('Policy', 'alone', { delegation: { to: ['nobody'] } })
    expect(await ask('ask_reader', { operation: 'write' })).toMatchObject({
      verdict: { verdict: 'deny', code: 'policy.routing_blocked', remediation: expect.stringContaining('nobody') },
    })
  })

  test('with a model that a policy keeps from it is refused and not recorded', async () => {
    await declare('ModelEndpoint', 'gpt', {
      provider: 'openai-compatible',
      model: 'm',
      baseUrl: 'https://m.example/v1',
    })
    await declare('Policy', 'stay-here', { models: { localOnly: true } })
    const { refused } = await append(modelAsked('m1', 10))
    expect(refused).toMatchObject({
      failure: { code: 'policy.denied', evidence: { rule: 'policy/stay-here' } },
      park: null,
    })
    expect(await kinds()).toEqual([])
  })

  test('with more tokens than a policy lets the run use is refused beforehand', async () => {
    await declare('Policy', 'bounds', { maxTokens: 100 })
    expect((await append(modelAsked('m1', 60))).refused).toBeNull()
    expect(
      (
        await append({
          kind: 'model_failed',
          call: 'm1',
          failure: { code: 'model.timeout', message: 'x', remediation: 'x', retryable: true },
        })
      ).refused,
    ).toBeNull()
    expect((await append(modelAsked('m2', 100))).refused).toBeNull()
    expect((await append(modelAsked('m3', 1))).refused).toMatchObject({
      failure: { code: 'policy.denied', evidence: { rule: 'policy/bounds', part: 'maxTokens', limit: 100, held: 100 } },
      park: null,
    })
  })
})
