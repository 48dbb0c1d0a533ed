import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import type { AppendResponse, Assignment } from '../../contract/exchange.ts'
import { NO_DATA_RULES } from '../../domain/agents/data-rules.ts'
import type { ParkedOn, WorkerEntry } from '../../domain/agents/journal.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import { noMetrics } from '../../base/metrics.ts'
import { METRICS } from '../../telemetry/metric-names.ts'
import { failureRecord } from '../../domain/failure.ts'
import type { AgentSpec } from '../../domain/kinds/agent.ts'
import type { ToolSpec } from '../../domain/kinds/tool.ts'
import { parseResources } from '../../domain/kinds/documents.ts'
import { agentNode, boundOf, NO_RETRY } from '../../domain/testing/definitions.ts'
import { wakeBudgetWaiters } from '../../store/steps/budget-waits.ts'
import type { RunningEngine } from '../create-engine.ts'
import { inTransaction } from '../testing/in-transaction.ts'
import { ADMIN, type EngineRig, type RigWorker, useRig, WORKER } from '../testing/rig.ts'
import { type Budgets, openBudgets, type ReserveWish, type Spent } from '../budgets/budgets.ts'
import type { Gate } from './gate.ts'

let rig: EngineRig
let engine: RunningEngine
let worker: RigWorker
let verdict: Verdict
let refusal: Awaited<ReturnType<Budgets['reserve']>>[number]
let forbidden: boolean
const reserved: ReserveWish[] = []
const spent: Spent[] = []

const gate: Gate = {
  ...inTransaction,
  dataRules: () => Promise.resolve(NO_DATA_RULES),
  calls: (_, asked) => Promise.resolve(asked.map(() => verdict)),
  beginning: () => Promise.resolve(null),
  models: (_, asked) =>
    Promise.resolve(
      asked.map(() => ({
        failure: forbidden ? failureRecord('model.rate_limited', 'asking what is forbidden') : null,
        caps: [],
      })),
    ),
}
const budgets: Budgets = {
  ...openBudgets,
  reserve: (_, wishes) => {
    reserved.push(...wishes)
    return Promise.resolve(wishes.map(() => refusal))
  },
  settle: (_, ended) => {
    spent.push(...ended)
    return Promise.resolve()
  },
}

useRig((opened) => {
  rig = opened
  verdict = { verdict: 'allow', rule: 'default' }
  refusal = null
  forbidden = false
  reserved.length = 0
  spent.length = 0
  engine = rig.engine({ gate, budgets })
})

// No other field of it is looked at here.
const spec = { model: 'gpt' } as AgentSpec
const asking: Verdict = { verdict: 'approval', rule: 'role/reader', approvers: null, expiresMs: 60_000 }
const bound = boundOf({ agents: { writer: { spec, instructions: '', definition: null } } })

const GPT = JSON.stringify({
  apiVersion: 'orrery.dev/v1',
  kind: 'ModelEndpoint',
  metadata: { name: 'gpt' },
  spec: { provider: 'mock', model: 'm', mock: { replies: [{ text: 'hello' }] } },
})
/** A step is given to nobody before its model endpoint is there. */
const declareModel = () =>
  engine.resources.apply(ADMIN, parseResources(GPT, { file: 'gpt', namespace: null }), { dryRun: false })

async function begun(extra: Parameters<typeof agentNode>[1] = {}, more = bound) {
  await declareModel()
  worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
  const runId = await rig.start(engine, await rig.put(engine, [agentNode('write', extra)], { bound: more }))
  return { runId, a: await worker.pollFirst() }
}

const modelAsked = (call: string): WorkerEntry => ({
  kind: 'model_asked',
  call,
  turn: 1,
  purpose: 'turn',
  agent: 'writer',
  endpoint: 'gpt',
  tokens: { input: 10, output: 20 },
})
const toolAsked = (call: string): Extract<WorkerEntry, { kind: 'tool_asked' }> => ({
  kind: 'tool_asked',
  call,
  turn: 1,
  agent: 'writer',
  tool: 'pay',
  operation: 'write',
  input: { to: 'x' },
  repeatable: false,
})
const toolAnswered = (call: string): WorkerEntry => ({
  kind: 'tool_answered',
  call,
  result: { ok: true, output: 1 },
  ms: 1,
  cut: 0,
})
const modelAnswered = (call: string): WorkerEntry => ({
  kind: 'model_answered',
  call,
  result: {
    endpoint: 'gpt',
    provider: 'mock',
    model: 'm',
    text: 'hi',
    toolCalls: [],
    finish: 'stop',
    usage: {
      inputTokens: 7,
      outputTokens: 8,
      cachedInputTokens: 0,
      cacheWriteTokens: 0,
      reasoningTokens: 0,
      isEstimated: false,
    },
    cost: null,
    warnings: [],
    tried: [],
    totalMs: 1,
  },
})

const at = ({ step, fence }: Pick<Assignment, 'step' | 'fence'>) => ({ session: worker.session, step, fence })
const append = (a: Assignment, n: number, ...entries: WorkerEntry[]): Promise<AppendResponse> =>
  engine.append(WORKER, { ...at(a), n, entries })
const journal = async (a: Assignment) =>
  (await engine.readJournal(WORKER, { ...at(a), from: 1 })).entries.map(({ seq, entry }) => [
    seq,
    entry.kind,
    'call' in entry ? entry.call : null,
  ])
const park = (a: Assignment, on: ParkedOn) => worker.report(a, { kind: 'parked', on })
const stepOf = async (runId: string) => {
  const [step] = (await engine.getRun(ADMIN, runId)).stepList
  if (!step) throw new Error('the run has no step')
  return step
}
const pending = async (runId: string) => {
  const filter = { namespace: null, states: ['pending' as const], runId, step: null, cursor: null, limit: 50 }
  return (await engine.listApprovals(ADMIN, filter)).items
}
const yes = { approved: true, comment: null, inputs: null }
/** A step whose one call waits for a person. */
async function waiting(more = bound, word = asking) {
  verdict = word
  const { runId, a } = await begun({}, more)
  const { verdicts } = await append(a, 1, modelAsked('m1'), ...[])
  expect(verdicts).toEqual({})
  const answer = await append(a, 2, modelAnswered('m1'), toolAsked('c1'))
  const id = answer.verdicts['c1']?.approval ?? ''
  await park(a, { type: 'approvals', approvals: [id] })
  return { runId, a, id }
}

describe('an append', () => {
  test('is written once, in order, with the word on each call behind it', async () => {
    const { a } = await begun()
    await append(a, 1, modelAsked('m1'))
    const second = await append(a, 2, modelAnswered('m1'), toolAsked('c1'), toolAsked('c2'))
    expect(second).toMatchObject({
      state: 'recorded',
      verdicts: { c1: { verdict: { verdict: 'allow' }, approval: null }, c2: { approval: null } },
      refused: null,
    })
    expect(await append(a, 2, modelAnswered('m1'), toolAsked('c1'), toolAsked('c2'))).toEqual(second)
    expect(await append(a, 1, modelAsked('m1'))).toMatchObject({ state: 'recorded', refused: null })
    expect(await journal(a)).toEqual([
      [1, 'model_asked', 'm1'],
      [2, 'model_answered', 'm1'],
      [3, 'tool_asked', 'c1'],
      [4, 'verdict', 'c1'],
      [5, 'tool_asked', 'c2'],
      [6, 'verdict', 'c2'],
    ])
  })

  test('sets aside before a model is asked, and counts what it took under the same name', async () => {
    const { runId, a } = await begun()
    await append(a, 1, modelAsked('m1'))
    await append(a, 2, modelAnswered('m1'))
    const key = { runId, node: 0, path: '', generation: 0, call: 'm1', agent: 'writer', endpoint: 'gpt' }
    expect(reserved).toMatchObject([{ ...key, tokens: { input: 10, output: 20 } }])
    expect(spent).toMatchObject([{ ...key, usage: { inputTokens: 7, outputTokens: 8 } }])
  })

  test('whose budget refuses writes all but the intent; the same again is asked again', async () => {
    const { a } = await begun()
    await append(a, 1, toolAsked('c1'))
    const failure = failureRecord('model.rate_limited', 'asking too much')
    refusal = { failure, park: { type: 'budget', budgets: ['default/b'], retryAfterMs: null, failure } }
    expect(await append(a, 2, toolAnswered('c1'), modelAsked('m2'))).toMatchObject({ refused: { failure } })
    expect((await journal(a)).at(-1)).toEqual([3, 'tool_answered', 'c1'])
    refusal = null
    expect(await append(a, 2, toolAnswered('c1'), modelAsked('m2'))).toMatchObject({ refused: null })
    expect((await journal(a)).slice(-2)).toEqual([
      [3, 'tool_answered', 'c1'],
      [4, 'model_asked', 'm2'],
    ])
    refusal = { failure, park: null as never }
    expect(await append(a, 2, toolAnswered('c1'), modelAsked('m2'))).toMatchObject({ refused: null })
  })

  test('whose model is forbidden sets nothing aside', async () => {
    const { a } = await begun()
    forbidden = true
    expect(await append(a, 1, modelAsked('m1'))).toMatchObject({ refused: { failure: {}, park: null } })
    expect(reserved).toEqual([])
    expect(await journal(a)).toEqual([])
  })

  test('of many at once is written in a handful of statements', async () => {
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    const definition = await rig.put(engine, [agentNode('write')], { bound })
    await declareModel()
    await rig.startMany(engine, definition, 4)
    const { assignments } = await worker.poll()
    expect(assignments).toHaveLength(4)
    const [one, ...others] = assignments
    if (!one) throw new Error('nothing was assigned')
    await append(one, 1, modelAsked('m1'))
    const statements: string[] = []
    rig.faults.before = (name) => void statements.push(name)
    await Promise.all(others.map((a) => append(a, 1, modelAsked('m1'))))
    expect(statements).toEqual(['hold_steps', 'append_entries'])
  })

  test('of an attempt that lost its step writes nothing, and a later one goes on behind it', async () => {
    const { a } = await begun()
    await append(a, 1, modelAsked('m1'))
    const [again] = (await worker.report(a, { kind: 'returned' })).assignments
    if (!again) throw new Error('it was not given out again')
    expect(await append(a, 2, modelAnswered('m1'))).toMatchObject({ state: 'stale' })
    expect(await engine.readJournal(WORKER, { ...at(a), from: 1 })).toMatchObject({ state: 'stale', entries: [] })
    await append(again, 1, modelAnswered('m1'))
    expect(await journal(again)).toEqual([
      [1, 'model_asked', 'm1'],
      [2, 'model_answered', 'm1'],
    ])
  })

  test('of a step that is no agent is refused', async () => {
    const { a } = await rig.startHeld(engine).then((held) => {
      worker = held.worker
      return held
    })
    await expect(append(a, 1, modelAsked('m1'))).rejects.toMatchObject({ code: 'request.invalid' })
  })
})

describe('a journal', () => {
  test('begins anew after a failure, and is shown whole to people', async () => {
    const { runId, a } = await begun({ retry: { ...NO_RETRY, max: 1 } })
    await append(a, 1, modelAsked('m1'))
    await worker.report(a, { kind: 'failed', failure: failureRecord('step.function_threw', 'testing') })
    await rig.advance(60_000)
    await engine.tick()
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    const again = await worker.pollFirst()
    expect(await journal(again)).toEqual([])
    await append(again, 1, modelAsked('m1'))
    expect(await journal(again)).toEqual([[2, 'model_asked', 'm1']])
    expect(reserved.map((r) => r.generation)).toEqual([0, 1])
    const page = await engine.showJournal(ADMIN, { runId, step: 'write' }, { from: 1, limit: 1 })
    expect(page).toMatchObject({ items: [{ seq: 1, fence: 1 }], next: 2, countsFrom: 1 })
    await expect(engine.showJournal(ADMIN, { runId, step: 'no' }, { from: 1, limit: 1 })).rejects.toMatchObject({
      code: 'step.not_found',
    })
  })

  test('is kept when the worker is lost', async () => {
    const { a } = await begun()
    await append(a, 1, modelAsked('m1'))
    for (let s = 0; s < 20; s++) {
      await rig.advance(1_000)
      await engine.tick()
    }
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    const again = await worker.pollFirst()
    expect(again.fence).toBe(2)
    expect(await journal(again)).toEqual([[1, 'model_asked', 'm1']])
  })
})

test('what is counted of a park and of an append has labels that the table of metrics knows', async () => {
  const labels: Record<string, Record<string, string>> = {}
  const note = (name: string, _: number, given?: Record<string, string>) => void (labels[name] = given ?? {})
  engine = rig.engine({ gate, budgets, metrics: { ...noMetrics, count: note } })
  const { a } = await begun()
  await append(a, 1, toolAsked('c1'))
  expect(labels['orrery_flushed_items_total']).toEqual({ kind: 'journal' })
  await park(a, { type: 'outcome', call: 'c1', tool: 'pay', input: { to: 'x' } })
  expect(labels['orrery_attempts_ended_total']).toEqual({ outcome: 'parked' })
  for (const [name, { kind, outcome }] of Object.entries(labels)) {
    const known = METRICS[name as keyof typeof METRICS] as { labels?: Record<string, readonly string[]> } // as it is named there
    if (kind !== undefined) expect(known.labels?.['kind']).toContain(kind)
    if (outcome !== undefined) expect(known.labels?.['outcome']).toContain(outcome)
  }
})

describe('an approval of a call', () => {
  test('shows exactly what would be called, frees the worker, and lets the step go on with what was changed', async () => {
    const { runId, id } = await waiting()
    expect(await pending(runId)).toMatchObject([
      {
        id,
        step: 'write',
        call: { about: 'call', id: 'c1', tool: 'pay', agent: 'writer', operation: 'write', input: { to: 'x' } },
      },
    ])
    expect(await engine.getRun(ADMIN, runId)).toMatchObject({
      state: 'waiting',
      waitsOn: [{ step: 'write', kind: 'approval', on: id }],
      stepList: [{ state: 'waiting', reason: { code: 'approval', message: expect.stringContaining('pay') } }],
    })
    const view = await engine.decideApproval(ADMIN, id, { ...yes, input: { to: 'y' } })
    expect(view).toMatchObject({ state: 'approved', call: { edited: { to: 'y' } } })
    const again = await worker.pollFirst()
    const { entries } = await engine.readJournal(WORKER, { ...at(again), from: 1 })
    expect(entries.at(-1)).toMatchObject({
      fence: 1,
      entry: { kind: 'decided', call: 'c1', approval: id, state: 'approved', input: { to: 'y' } },
    })
    await expect(engine.decideApproval(ADMIN, id, yes)).rejects.toMatchObject({ code: 'approval.already_decided' })
  })

  test('says which rule asks, and why', async () => {
    const reason = 'money leaves the house'
    const { runId } = await waiting(bound, { ...asking, reason })
    expect(await pending(runId)).toMatchObject([
      {
        message: 'writer wants to call pay (write); role/reader asks a person: money leaves the house',
        call: { rule: 'role/reader', reason },
        remark: null,
      },
    ])
  })

  test('where no rule says why, nothing is made up', async () => {
    const { runId } = await waiting()
    expect(await pending(runId)).toMatchObject([
      {
        message: 'writer wants to call pay (write); role/reader asks a person.',
        call: { rule: 'role/reader', reason: null },
      },
    ])
  })

  test('of a tool of an MCP server takes other arguments, and says that they are checked at the call', async () => {
    const inputSchema: JsonObject = { type: 'object', required: ['to'] }
    const pay = { type: 'mcp', inputSchema, mcp: { server: 'bank', tool: 'pay' } } as ToolSpec // no other field of it is looked at
    const { id } = await waiting(boundOf({ ...bound, tools: { pay } }))
    await expect(engine.decideApproval(ADMIN, id, { ...yes, input: {} })).rejects.toMatchObject({
      code: 'input.invalid',
    })
    const view = await engine.decideApproval(ADMIN, id, { ...yes, input: { to: 1 } })
    expect(view.remark).toMatch(/^The arguments are checked when pay is called: .* MCP server bank alone\./)
    expect((await engine.getApproval(ADMIN, id)).remark).toBeNull()
  })

  test('takes no arguments that the tool does not, and stays open', async () => {
    const inputSchema: JsonObject = { type: 'object', properties: { to: { type: 'string' } }, required: ['to'] }
    const pay = { inputSchema } as ToolSpec // no other field of it is looked at
    const { runId, id } = await waiting(boundOf({ ...bound, tools: { pay } }))
    await expect(engine.decideApproval(ADMIN, id, { ...yes, input: { too: 'y' } })).rejects.toMatchObject({
      code: 'input.invalid',
      evidence: { problems: [{ path: 'input.to', message: 'is required' }] },
    })
    expect(await pending(runId)).toMatchObject([{ id, state: 'pending' }])
    await engine.decideApproval(ADMIN, id, { ...yes, input: { to: 'y' } })
  })

  test('that is decided while the agent is at work counts, and its park is over at once', async () => {
    verdict = asking
    const { runId, a } = await begun()
    const { verdicts } = await append(a, 1, toolAsked('c1'))
    const id = verdicts['c1']?.approval ?? ''
    await engine.decideApproval(ADMIN, id, { ...yes, approved: false })
    expect((await journal(a)).at(-1)).toEqual([3, 'decided', 'c1'])
    await park(a, { type: 'approvals', approvals: [id] })
    expect(await rig.states(runId)).toEqual({ write: 'running' })
  })

  test('that nobody decides expires, and the agent is told', async () => {
    const { runId } = await waiting()
    await rig.advance(60_000)
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    await engine.tick()
    const again = await worker.pollFirst()
    const { entries } = await engine.readJournal(WORKER, { ...at(again), from: 1 })
    expect(entries.at(-1)).toMatchObject({ entry: { kind: 'decided', state: 'expired', by: null } })
    expect(await pending(runId)).toEqual([])
  })

  test('is closed with its run, and cannot be decided any more', async () => {
    const { runId, id } = await waiting()
    await engine.cancelRun(ADMIN, runId)
    expect(await engine.getApproval(ADMIN, id)).toMatchObject({ state: 'canceled' })
    await expect(engine.decideApproval(ADMIN, id, yes)).rejects.toMatchObject({ code: 'approval.already_decided' })
    await engine.retryRun(ADMIN, runId)
    await engine.tick()
    expect(await journal(await worker.pollFirst())).toEqual([])
  })

  test('is closed by a tick when the server stopped just after the agent had ended', async () => {
    verdict = asking
    const { runId, a } = await begun()
    await append(a, 1, toolAsked('c1'))
    rig.faults.before = (name) => {
      if (name === 'close_call_approvals') throw new Error('gone')
    }
    await worker.done(a, { text: 'done' })
    expect(await pending(runId)).toHaveLength(1)
    delete rig.faults.before
    await rig.advance(600_000)
    await engine.tick()
    expect(await pending(runId)).toEqual([])
  })

  test('is closed when the agent ends without it', async () => {
    verdict = asking
    const { runId, a } = await begun()
    const { verdicts } = await append(a, 1, toolAsked('c1'))
    await worker.done(a, { text: 'done' })
    expect(await engine.getApproval(ADMIN, verdicts['c1']?.approval ?? '')).toMatchObject({ state: 'canceled' })
    expect(await pending(runId)).toEqual([])
  })

  test('takes no other arguments but an object, and no outcome', async () => {
    const { id } = await waiting()
    await expect(engine.decideApproval(ADMIN, id, { ...yes, output: 1 })).rejects.toMatchObject({
      code: 'input.invalid',
    })
    await expect(engine.decideApproval(ADMIN, id, { ...yes, inputs: { a: 1 } })).rejects.toMatchObject({
      code: 'input.invalid',
    })
  })

  test('whose row is gone fails the step, and says so', async () => {
    const { runId, id } = await waiting()
    await rig.db.query('delete from approval where id = $1', [id])
    expect((await stepOf(runId)).reason).toMatchObject({ code: 'approval.missing' })
    await rig.advance(600_000)
    await engine.tick()
    expect(await stepOf(runId)).toMatchObject({ state: 'failed', failure: { code: 'approval.missing' } })
  })
})

test('a call whose outcome is not known waits for a person, who says what it gave', async () => {
  const { runId, a } = await begun()
  await append(a, 1, toolAsked('c1'))
  await park(a, { type: 'outcome', call: 'c1', tool: 'pay', input: { to: 'x' } })
  const [asked] = await pending(runId)
  expect(asked).toMatchObject({ call: { about: 'outcome', id: 'c1', tool: 'pay', input: { to: 'x' } } })
  expect(asked?.message).toContain('tool.outcome_unknown')
  await expect(engine.decideApproval(ADMIN, asked?.id ?? '', { ...yes, input: {} })).rejects.toMatchObject({
    code: 'input.invalid',
  })
  await engine.decideApproval(ADMIN, asked?.id ?? '', { ...yes, output: { paid: true } })
  const again = await worker.pollFirst()
  const { entries } = await engine.readJournal(WORKER, { ...at(again), from: 1 })
  expect(entries.at(-1)).toMatchObject({ entry: { kind: 'decided', about: 'outcome', output: { paid: true } } })
})

describe('a run below an agent', () => {
  async function delegated() {
    const hash = await rig.put(engine, [{ name: 'read' }], { name: 'reader' })
    const agents = {
      writer: { spec: { ...spec, delegates: ['reader'] }, instructions: '', definition: null },
      reader: { spec, instructions: '', definition: hash },
    }
    const { runId, a } = await begun({}, boundOf({ agents }))
    await append(a, 1, { ...toolAsked('c1'), tool: 'ask_reader' })
    await park(a, { type: 'child', calls: [{ call: 'c1', of: 'agent', name: 'reader', inputs: { q: 1 } }] })
    const child = (await stepOf(runId)).childRun ?? ''
    return { runId, child }
  }

  test('answers the call when it ends', async () => {
    const { runId, child } = await delegated()
    expect((await stepOf(runId)).reason).toMatchObject({ code: 'child', evidence: { run: child } })
    const functions = await rig.worker(engine)
    await functions.done(await functions.pollFirst(), { text: 'read' })
    await engine.tick()
    const again = await worker.pollFirst()
    const { entries } = await engine.readJournal(WORKER, { ...at(again), from: 1 })
    expect(entries.slice(-2).map((e) => e.entry)).toEqual([
      { kind: 'child_started', call: 'c1', run: child },
      { kind: 'child_ended', call: 'c1', run: child, result: { ok: true, output: { text: 'read' } } },
    ])
  })

  test('runs side by side with others of its turn; the step goes on when all of them have ended, each told once', async () => {
    const hash = await rig.put(engine, [{ name: 'read' }], { name: 'reader' })
    const agents = {
      writer: { spec: { ...spec, delegates: ['reader'] }, instructions: '', definition: null },
      reader: { spec, instructions: '', definition: hash },
    }
    const { runId, a } = await begun({}, boundOf({ agents }))
    const calls = ['c1', 'c2', 'c3']
    await append(a, 1, ...calls.map((call) => ({ ...toolAsked(call), tool: 'ask_reader' })))
    const on: ParkedOn = {
      type: 'child',
      calls: calls.map((call) => ({ call, of: 'agent', name: 'reader', inputs: { of: call } })),
    }
    await park(a, on)
    await park(a, on) // the report comes twice
    const below = (await stepOf(runId)).waitsOn?.on?.split(' ') ?? []
    expect(new Set(below).size).toBe(3)
    expect(await stepOf(runId)).toMatchObject({
      childRun: below[0],
      reason: { code: 'child', message: `waiting for ${below[0]} and 2 more to end`, evidence: { runs: below } },
    })
    const functions = await rig.worker(engine, { capacity: 3 })
    const work = (await functions.poll()).assignments
    expect(new Set(work.map(({ step }) => step.split('.')[0]))).toEqual(new Set(below))
    const isOpen = async () => (await stepOf(runId)).state === 'waiting'
    for (const one of work.toReversed()) {
      expect(await isOpen()).toBe(true)
      await functions.done(one, { text: below.indexOf(one.step.split('.')[0] ?? '') })
      await engine.tick()
      // The server died before it wrote down that the step was told.
      await rig.db.query('update run set parent_told = false where parent_run = $1', [runId])
      await engine.tick()
    }
    const again = await worker.pollFirst()
    const { entries } = await engine.readJournal(WORKER, { ...at(again), from: 1 })
    const ended = entries.flatMap(({ entry }) => (entry.kind === 'child_ended' ? [entry] : []))
    expect(ended).toHaveLength(3)
    expect(Object.fromEntries(ended.map(({ call, run, result }) => [call, [run, result]]))).toEqual(
      Object.fromEntries(calls.map((call, i) => [call, [below[i], { ok: true, output: { text: i } }]])),
    )
    expect(await rig.db.query('select id from run where parent_run = $1', [runId])).toHaveLength(3)
  })

  test('is stopped with it', async () => {
    const { runId, child } = await delegated()
    await engine.cancelRun(ADMIN, runId)
    await engine.tick()
    expect((await engine.getRun(ADMIN, child)).state).toBe('canceled')
  })
})

describe('a step that waits for a budget', () => {
  const failure = failureRecord('model.rate_limited', 'asking too much')
  const on: ParkedOn = { type: 'budget', budgets: ['default/team'], retryAfterMs: 60_000, failure }

  test('is named with it, and asks again when its window has moved', async () => {
    const { runId, a } = await begun()
    await park(a, on)
    expect((await stepOf(runId)).reason).toMatchObject({ code: 'budget', evidence: { budgets: ['default/team'] } })
    await rig.advance(60_000)
    worker = await rig.worker(engine, { backends: ['agent'], modules: [] })
    await engine.tick()
    expect((await worker.pollFirst()).fence).toBe(2)
  })

  test('goes on when the budget is given more, and no other does', async () => {
    const { runId, a } = await begun()
    await rig.advance(10)
    await park(a, { ...on, retryAfterMs: null })
    expect(await wakeBudgetWaiters(rig.db, ['default/other'])).toBe(0)
    expect(await wakeBudgetWaiters(rig.db, ['default/team'])).toBe(1)
    await engine.tick()
    expect(await rig.states(runId)).toEqual({ write: 'queued' })
  })

  test('does not begin to wait when it was given more meanwhile', async () => {
    const { runId, a } = await begun()
    await wakeBudgetWaiters(rig.db, ['default/team'])
    await park(a, on)
    expect(await rig.states(runId)).toEqual({ write: 'running' })
  })
})
