import { derivedId } from '../../base/ids.ts'
import { SerialQueue } from '../../base/serial-queue.ts'
import type { AppendRequest, AppendResponse } from '../../contract/exchange.ts'
import type { JournalEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { Verdict } from '../../domain/agents/verdict.ts'
import { Failure, type FailureRecord, failureRecord } from '../../domain/failure.ts'
import { displayName } from '../../domain/step.ts'
import { isJournaled } from '../../domain/workflow.ts'
import { askForCalls, type NewCallApproval } from '../../store/approvals/call-approvals.ts'
import type { LiveBudget } from '../../store/budgets/live-budgets.ts'
import type { Queryable } from '../../store/db.ts'
import { appendEntries, removeAsked } from '../../store/journal/append-entries.ts'
import { type HeldActivation, holdSteps, type JournalAttempt } from '../../store/journal/hold-steps.ts'
import { findAppended, findAskedModels } from '../../store/journal/read-entries.ts'
import type { Batcher } from '../batcher.ts'
import type { EngineContext } from '../context.ts'
import type { Dispatcher } from '../dispatcher.ts'
import { groupCommit } from '../group-commit.ts'
import type { Caller } from '../engine.ts'
import { heldStep } from '../held-step.ts'
import { stepIdOf } from '../step-id.ts'
import {
  agentIn,
  type Answers,
  type AppendItem,
  askedCallIn,
  askedModelIn,
  type Entry,
  inTurns,
  isOwn,
  spenderIn,
  STALE,
  verdictsIn,
} from './append-item.ts'
import { type Foreword, isCounted, type Known, KnownAppends } from './append-known.ts'
import { countVerdict, type ModelWord } from './gate.ts'
import { type LiveBudgets, openBudgets, type Refusal, type ReserveWish, type Spent } from '../budgets/budgets.ts'

/**
 * Writes journals: what many attempts are about to do is recorded together, after the rules were asked about the calls and the budgets about the models,
 * all in one transaction; where the word of both is known beforehand, that is one statement. What an attempt was told to be recorded is recorded; what it was not told may be.
 */
export class Appender {
  readonly #ctx: EngineContext
  readonly #dispatcher: Dispatcher
  readonly #known: KnownAppends
  readonly #appends: Batcher<AppendItem, AppendResponse>
  readonly #countings = new SerialQueue()

  constructor(ctx: EngineContext, dispatcher: Dispatcher) {
    this.#ctx = ctx
    this.#dispatcher = dispatcher
    this.#known = new KnownAppends(ctx)
    this.#appends = groupCommit(ctx, 'journal', (items) => this.#flush(items))
  }

  /** Throws `request.invalid` for a step that journals nothing. */
  async append(caller: Caller, request: AppendRequest): Promise<AppendResponse> {
    const { session, step, fence, n, entries } = request
    const held = await heldStep(this.#ctx, this.#dispatcher, caller, request)
    if (!held) return STALE
    const { at, definition } = held
    if (!isJournaled(definition.nodes[at.node]))
      throw new Failure('request.invalid', `journaling for step ${step}, which is no agent's`)
    return this.#appends.add({ ...at, session, fence, n, entries, definition })
  }

  async #flush(items: AppendItem[]): Promise<AppendResponse[]> {
    const answers: Answers = new Map()
    // Of one activation one after the other: what the second may do depends on the first.
    for (const turn of inTurns(items)) {
      const { answers: known, forewords } = await this.#known.record(turn)
      const others = turn.filter((item) => !known.has(item))
      const counted = others.filter((item) => mayBeCounted(item, forewords.get(item)))
      const uncounted = others.filter((item) => !counted.includes(item))
      const judged = await this.#inTransaction(uncounted, forewords)
      const paid = counted.length === 0 ? [] : await this.#countings.add(() => this.#recordCounted(counted, forewords))
      for (const [item, answer] of [...known, ...judged, ...paid]) answers.set(item, answer)
    }
    for (const run of new Set(items.map((i) => i.runId))) this.#ctx.watch.notify(run)
    return items.map((item) => answers.get(item) ?? STALE)
  }

  /** By the counts made last, and then by counting anew. One after the other: who counts ends the counts that were made before. */
  async #recordCounted(items: readonly AppendItem[], forewords: Known['forewords']): Promise<Answers> {
    const answers = await this.#known.recordCounted(items, forewords)
    const others = items.filter((item) => !answers.has(item))
    return new Map([...answers, ...(await this.#inTransaction(others, forewords))])
  }

  async #inTransaction(items: readonly AppendItem[], forewords: Known['forewords']): Promise<Answers> {
    return items.length === 0 ? new Map() : this.#ctx.db.transaction((tx) => this.#record(tx, items, forewords))
  }

  async #record(
    tx: Queryable,
    items: readonly AppendItem[],
    forewords: ReadonlyMap<AppendItem, Foreword>,
  ): Promise<Answers> {
    const held = new Map((await holdSteps(tx, items)).map((h) => [keyOfAttempt(h), h]))
    const live = items.flatMap((item): Live[] => {
      const activation = held.get(keyOfAttempt(item))
      if (!activation) return []
      const foreword = forewords.get(item) ?? null
      return [{ item, activation, foreword: foreword?.version === activation.version ? foreword : null }]
    })
    const [first] = live
    if (!first) return new Map()
    this.#known.heard(first.activation.version)
    const contextVersion = String(first.activation.version)
    const verdicts = await this.#judge(tx, live)
    await this.#settle(tx, live)
    const words = await this.#modelWords(tx, live)
    const drafts = live.map(({ item, activation }) => {
      const denied = words.get(item)?.failure ?? null
      return { item, activation, denied, ...draftOf(item, { activation, isRefused: denied !== null, verdicts }) }
    })
    const written = await appendEntries(
      tx,
      drafts.map(({ item, entries }) => ({ ...item, entries })),
    )
    // A question that was written before has what is set aside for it. What is new of an append is its end, which is what asks.
    const isNewIn = new Map(live.map(({ item }, i) => [item, (written[i] ?? 0) > 0]))
    const refusals = await this.#reserve(
      tx,
      live.filter(({ item }) => isNewIn.get(item)),
      words,
    )
    await removeAsked(
      tx,
      [...refusals.keys()].map((item) => ({ ...item, call: askingIn(item)?.call ?? '' })),
    )
    const asked: NewCallApproval[] = []
    const answers: Answers = new Map()
    for (const [i, { item, entries, approvals, denied }] of drafts.entries()) {
      const refused = denied ? { failure: denied, park: null } : (refusals.get(item) ?? null)
      const isNew = written[i] === entries.length && entries.length > 0
      if (isNew) asked.push(...approvals)
      const said = isNew ? entries : await findAppended(tx, item)
      // What was written under this number before was not refused then.
      const isThere = !isNewIn.get(item) && said.some((entry) => entry.kind === 'model_asked')
      answers.set(item, {
        state: 'recorded',
        verdicts: verdictsIn(said),
        refused: isThere ? null : refused,
        contextVersion,
      })
    }
    if (asked.length > 0) await askForCalls(tx, asked)
    return answers
  }

  /** The rules' word on each call that is asked. */
  async #judge(tx: Queryable, live: readonly Live[]): Promise<Map<WorkerEntry, Verdict>> {
    const { gate } = this.#ctx
    const all = live.flatMap(({ item, foreword }) =>
      item.entries
        .filter((entry) => entry.kind === 'tool_asked')
        .map((entry, i) => ({ item, entry, known: foreword?.allowed.verdicts[i] ?? null })),
    )
    const word = new Map<WorkerEntry, Verdict>(
      all.map(({ item, entry, known }) => [entry, known ?? notItsTool(item, entry)]),
    )
    for (const { known } of all) if (known) countVerdict(this.#ctx, 'tool', known.verdict)
    const asked = all.filter(({ item, entry, known }) => known === null && isOwn(item, entry))
    if (asked.length === 0) return word
    const verdicts = await gate.calls(
      tx,
      asked.map(({ item, entry }) => askedCallIn(item, entry)),
    )
    for (const [i, { entry }] of asked.entries()) word.set(entry, verdicts[i] ?? noWord(entry))
    return word
  }

  /** Counts what calls of models that have ended took. */
  async #settle(tx: Queryable, live: readonly Live[]): Promise<void> {
    const { budgets = openBudgets } = this.#ctx
    const ended = live.flatMap(({ item, activation }) =>
      item.entries.flatMap((entry) =>
        entry.kind === 'model_answered' || entry.kind === 'model_failed' ? [{ item, activation, entry }] : [],
      ),
    )
    if (ended.length === 0) return
    const intents = await findAskedModels(
      tx,
      ended.map(({ item, entry }) => ({ runId: item.runId, node: item.node, path: item.path, call: entry.call })),
    )
    const spent = ended.flatMap(({ item, activation, entry }, i): Spent[] => {
      const intent = intents[i]
      if (!intent) return []
      const result = entry.kind === 'model_answered' ? entry.result : null
      const at = { ...keyOf(item, activation, entry.call), ...spenderIn(item, intent) }
      return [
        {
          ...at,
          endpoint: result?.endpoint ?? intent.endpoint,
          usage: result?.usage ?? null,
          cost: result?.cost ?? null,
          ...(result ? { model: result.model } : {}),
        },
      ]
    })
    if (spent.length > 0) await budgets.settle(tx, spent)
  }

  /** The rules' word on the model that each asks. */
  async #modelWords(tx: Queryable, live: readonly Live[]): Promise<Map<AppendItem, ModelWord>> {
    const words = new Map<AppendItem, ModelWord>()
    const unknown: { item: AppendItem; entry: Entry<'model_asked'> }[] = []
    for (const { item, foreword } of live) {
      const entry = askingIn(item)
      if (!entry) continue
      if (!isOwn(item, entry)) words.set(item, { failure: notItsModel(item, entry), caps: [] })
      else if (foreword) {
        words.set(item, { failure: null, caps: foreword.allowed.caps.at(-1) ?? [] })
        countVerdict(this.#ctx, 'model', 'allow')
      } else unknown.push({ item, entry })
    }
    if (unknown.length === 0) return words
    const told = await this.#ctx.gate.models(
      tx,
      unknown.map(({ item, entry }) => askedModelIn(item, entry)),
    )
    for (const [i, { item, entry }] of unknown.entries()) words.set(item, told[i] ?? noModelWord(entry))
    return words
  }

  /** Sets aside what models may take that are asked; why not for those that do not fit. */
  async #reserve(
    tx: Queryable,
    live: readonly Live[],
    words: ReadonlyMap<AppendItem, ModelWord>,
  ): Promise<Map<AppendItem, Refusal>> {
    const { budgets = openBudgets } = this.#ctx
    const asking = live.flatMap((one) => {
      const entry = askingIn(one.item)
      const word = words.get(one.item)
      return entry && word && !word.failure ? [{ ...one, entry, caps: word.caps }] : []
    })
    if (asking.length === 0) return new Map()
    const wishes = asking.map(({ item, activation, entry, caps, foreword }): ReserveWish => {
      const cost = foreword?.known.costs.at(-1)
      return {
        ...{ ...keyOf(item, activation, entry.call), ...spenderIn(item, entry), tokens: entry.tokens, caps },
        ...(cost === undefined ? {} : { cost }),
      }
    })
    const answers = await budgets.reserve(tx, wishes, knownBudgets(asking))
    return new Map(
      asking.flatMap(({ item }, i) => {
        const no = answers[i]
        return no ? [[item, no]] : []
      }),
    )
  }
}

/** An append whose attempt holds its step. */
interface Live {
  item: AppendItem
  activation: HeldActivation
  /** Null: nothing of it is known beforehand, or resources have changed since. */
  foreword: Foreword | null
}

/** The question that an append ends with. */
function askingIn({ entries }: AppendItem): Entry<'model_asked'> | null {
  const last = entries.at(-1)
  return last?.kind === 'model_asked' ? last : null
}

/** Whether a budget may have to set aside what it asks for. */
const mayBeCounted = ({ entries }: AppendItem, foreword: Foreword | undefined): boolean =>
  foreword ? isCounted(foreword) : entries.some(({ kind }) => kind === 'model_asked')

/** The budgets of all of these, where they are known of each. */
function knownBudgets(all: readonly Live[]): LiveBudgets | null {
  const of = new Map<string, readonly LiveBudget[]>()
  for (const { item, foreword } of all) {
    if (!foreword) return null
    of.set(item.definition.namespace, foreword.budgets)
  }
  const [first] = all
  return first ? { now: new Date(first.activation.now), budgets: [...of.values()].flat() } : null
}

const keyOfAttempt = (a: JournalAttempt): string => `${a.session} ${stepIdOf(a)}@${a.fence}`

const keyOf = ({ runId, node, path, fence }: AppendItem, { journalFrom }: HeldActivation, call: string) => {
  return { runId, node, path, fence, generation: journalFrom, call }
}

const notItsTool = ({ definition, node }: AppendItem, { agent, tool }: Entry<'tool_asked'>): Verdict => ({
  verdict: 'deny',
  code: 'tool.permission_denied',
  rule: agent === '' ? 'default' : `agent/${agent}`,
  reason: `step ${definition.nodes[node]?.name ?? ''} makes no calls of ${tool}${agent === '' ? '' : ` for agent ${agent}`}`,
  remediation: `Name the agent in the step or among the handoffs of its agent, or call ${tool} in a step of its own.`,
})

const notItsModel = ({ definition, node }: AppendItem, { agent, endpoint }: Entry<'model_asked'>): FailureRecord =>
  failureRecord('policy.denied', `asking ${endpoint} in step ${definition.nodes[node]?.name ?? ''}`, {
    evidence: { rule: 'default', reason: `nobody of the name '${agent}' speaks in this step`, endpoint },
    remediation: 'Name the agent in the step or among the handoffs of its agent.',
  })

const noModelWord = ({ endpoint }: Entry<'model_asked'>): ModelWord => ({
  failure: failureRecord('policy.denied', `asking ${endpoint}, on which the rules gave no word`),
  caps: [],
})

/** A gate that says nothing of a call has not allowed it. */
const noWord = ({ tool }: Entry<'tool_asked'>): Verdict => ({
  verdict: 'deny',
  code: 'policy.denied',
  rule: 'default',
  reason: `the rules gave no word on ${tool}`,
  remediation: 'Look at the log of the server.',
})

/** What is written: each call that is asked is followed by the word on it, and a model that is refused is left out. */
function draftOf(
  item: AppendItem,
  {
    activation,
    isRefused,
    verdicts,
  }: { activation: HeldActivation; isRefused: boolean; verdicts: ReadonlyMap<WorkerEntry, Verdict> },
): { entries: JournalEntry[]; approvals: NewCallApproval[] } {
  const entries: JournalEntry[] = []
  const approvals: NewCallApproval[] = []
  for (const entry of isRefused ? item.entries.slice(0, -1) : item.entries) {
    entries.push(entry)
    if (entry.kind !== 'tool_asked') continue
    const verdict = verdicts.get(entry) ?? noWord(entry)
    const approval = verdict.verdict === 'approval' ? approvalOf(item, { activation, entry, verdict }) : null
    if (approval) approvals.push(approval)
    entries.push({ kind: 'verdict', call: entry.call, verdict, approval: approval?.id ?? null })
  }
  return { entries, approvals }
}

function approvalOf(
  item: AppendItem,
  {
    activation,
    entry,
    verdict,
  }: {
    activation: HeldActivation
    entry: Entry<'tool_asked'>
    verdict: Extract<Verdict, { verdict: 'approval' }>
  },
): NewCallApproval {
  const { definition, runId, node, path, fence } = item
  const { call, tool, operation, input } = entry
  const agent = agentIn(item, entry.agent)
  const step = displayName(definition.nodes[node]?.name ?? '', path)
  const who = agent ?? `Step ${step}`
  const reason = verdict.reason ?? null
  return {
    id: derivedId('approval', `${stepIdOf(item)}/${fence}/${call}/call`, activation.now),
    runId,
    node,
    path,
    fence,
    step,
    namespace: definition.namespace,
    workflow: definition.name,
    message: `${who} wants to call ${tool} (${operation}); ${verdict.rule} asks a person${reason === null ? '.' : `: ${reason}`}`,
    rule: verdict.rule,
    reason,
    approvers: verdict.approvers,
    expiresMs: verdict.expiresMs,
    call,
    agent,
    tool,
    operation,
    input,
  }
}
