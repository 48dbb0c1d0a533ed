import { createHash } from 'node:crypto'
import type { JsonObject } from '../../base/json.ts'
import type { DataRules } from '../../domain/agents/data-rules.ts'
import { judgeBeginning, judgeCall, type Judged, type LookedAt } from '../../domain/agents/rules/judge-call.ts'
import { type AskedEndpoint, judgeModel } from '../../domain/agents/rules/judge-model.ts'
import {
  governingNamespace,
  type ReadPolicy,
  readPolicyRow,
  type ReadRole,
  readRoleRow,
  type RuleSet,
  ruleSetOf,
  type Subject,
  unreadableRules,
} from '../../domain/agents/rules/rule-set.ts'
import { type TokenCap, tokenCaps, workerRules } from '../../domain/agents/rules/worker-rules.ts'
import type { AskedCall, Denial, RuleName, RunFacts, Verdict } from '../../domain/agents/verdict.ts'
import { modelEndpointSpecSchema } from '../../domain/kinds/model-endpoint.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type AuditEntry, recordAudit } from '../../store/audit/audit.ts'
import type { Queryable } from '../../store/db.ts'
import { findResources } from '../../store/resources/read-resources.ts'
import { listRules, readRunFacts, type StoredRule } from '../../store/resources/list-rules.ts'
import { isRetryableConflict } from '../../store/storage-failure.ts'
import type { EngineContext } from '../context.ts'
import { Denials } from '../denials.ts'
import {
  type Allowed,
  countVerdict,
  type AskedModel,
  type AskedRun,
  type AskedTogether,
  type Gate,
  type ModelWord,
} from './gate.ts'
import type { ResourcesAt } from '../resources/resources-at.ts'

type Kept = { kind: 'Policy'; rule: ReadPolicy } | { kind: 'Role'; rule: ReadRole }

/** Of a run that nothing is known of any more: it stands for itself. */
const loneRun = (workflow: string): RunFacts => ({ labels: {}, workflows: [workflow], depth: 0, runsBelow: 0 })

const hashOf = (input: JsonObject): string => createHash('sha256').update(JSON.stringify(input)).digest('hex')

/**
 * The rules as they are stored at the moment of the question, in the caller's transaction. A spec never changes under its version, so each is read once.
 * What cannot be read denies; only a conflict that is tried again as a whole is an exception.
 */
export class RuleGate implements Gate {
  readonly #ctx: Pick<EngineContext, 'ids' | 'metrics' | 'log'>
  readonly #denials: Denials
  readonly #read = new Map<number, Kept>()
  readonly #setsAt = new WeakMap<ResourcesAt, Map<string, Promise<RuleSet>>>()

  constructor(ctx: Pick<EngineContext, 'ids' | 'metrics' | 'log' | 'clock'>) {
    this.#ctx = ctx
    this.#denials = new Denials(ctx.clock)
  }

  async calls(on: Queryable, asked: readonly AskedCall[]): Promise<Verdict[]> {
    const judged = await this.judge(on, asked)
    for (const { verdict } of judged) countVerdict(this.#ctx, 'tool', verdict.verdict)
    await this.#audit(
      on,
      asked.flatMap((call, i) => {
        const verdict = judged[i]?.verdict
        return verdict?.verdict === 'deny' ? [denialOf(call, verdict)] : []
      }),
    )
    return judged.map(({ verdict }) => verdict)
  }

  async beginning(on: Queryable, asked: AskedCall, begun: number): Promise<Denial | null> {
    const { rulesOf, factsOf } = await this.#rules(on, [asked])
    const facts = factsOf(asked)
    const denial = judgeBeginning(rulesOf(asked.namespace), asked, { ...facts, runsBelow: facts.runsBelow + begun })
    if (!denial) return null
    countVerdict(this.#ctx, 'tool', 'deny')
    await this.#audit(on, [denialOf(asked, denial)])
    return denial
  }

  /** The verdicts with all that was looked at; nothing is counted and nothing written. */
  async judge(on: Queryable, asked: readonly AskedCall[]): Promise<Judged[]> {
    const { rulesOf, factsOf } = await this.#rules(on, asked)
    // What was allowed before in the same question begins runs too, which are not there yet.
    const begun = new Map<string | null, number>()
    return asked.map((call) => {
      const facts = factsOf(call)
      const before = begun.get(call.runId) ?? 0
      const judged = judgeCall(rulesOf(call.namespace), call, { ...facts, runsBelow: facts.runsBelow + before })
      const begins = call.target !== null && call.target.of !== 'handoff' && judged.verdict.verdict !== 'deny'
      if (begins) begun.set(call.runId, before + 1)
      return judged
    })
  }

  async models(on: Queryable, asked: readonly AskedModel[]): Promise<ModelWord[]> {
    const judged = await this.judgeModels(on, asked)
    for (const { failure } of judged) countVerdict(this.#ctx, 'model', failure ? 'deny' : 'allow')
    await this.#audit(
      on,
      asked.flatMap((call, i) => {
        const failure = judged[i]?.failure
        if (!failure) return []
        const { agent, endpoint } = call
        const details = { endpoint, rule: failure.evidence?.['rule'] ?? null, code: failure.code }
        return [{ call, action: 'modelendpoints.ask', object: endpoint, agent, details }]
      }),
    )
    return judged.map(({ failure, caps }) => ({ failure, caps }))
  }

  async judgeModels(on: Queryable, asked: readonly AskedModel[]): Promise<(ModelWord & { looked: LookedAt[] })[]> {
    const { rulesOf, factsOf } = await this.#rules(on, asked)
    const governed = asked.filter(({ namespace }) => rulesOf(namespace).policies.length > 0)
    const rows = governed.length === 0 ? [] : await this.#endpoints(on, governed)
    return asked.map((one) => {
      const row = rows.find(({ namespace, name }) => namespace === one.namespace && name === one.endpoint)
      const rules = rulesOf(one.namespace)
      const subject = subjectOf(one, factsOf(one))
      const word = judgeModel(rules, subject, row ?? { name: one.endpoint, spec: null })
      return { ...word, caps: tokenCaps(rules, subject) }
    })
  }

  async dataRules(on: Queryable, at: AskedRun): Promise<DataRules> {
    const { rulesOf, factsOf } = await this.#rules(on, [at])
    return workerRules(rulesOf(at.namespace), subjectOf(at, factsOf(at)))
  }

  async allowedAt(resources: ResourcesAt, asked: readonly AskedTogether[]): Promise<(Allowed | null)[]> {
    return Promise.all(asked.map((one) => this.#allowedTogether(resources, one)))
  }

  async #allowedTogether(resources: ResourcesAt, { namespace, calls, models }: AskedTogether): Promise<Allowed | null> {
    const verdicts: Verdict[] = []
    const caps: (readonly TokenCap[])[] = []
    for (const call of calls) {
      const rules = await this.#setAt(resources, call.namespace)
      if (rules.policies.some(looksAtRun)) return null
      const { verdict } = judgeCall(rules, call, loneRun(call.workflow))
      if (verdict.verdict !== 'allow') return null
      verdicts.push(verdict)
    }
    for (const model of models) {
      const rules = await this.#setAt(resources, model.namespace)
      if (rules.policies.some(looksAtRun)) return null
      const row = rules.policies.length === 0 ? null : await resources.endpoint(model.namespace, model.endpoint)
      const subject = subjectOf(model, loneRun(model.workflow))
      const { failure } = judgeModel(rules, subject, row ? readEndpoint(row) : { name: model.endpoint, spec: null })
      if (failure) return null
      caps.push(tokenCaps(rules, subject))
    }
    const { policies } = await this.#setAt(resources, namespace)
    return { verdicts, caps, isCapping: policies.some(({ spec }) => spec === null || spec.maxTokens !== undefined) }
  }

  /** Rules that cannot be had let nothing pass here; why not is told where they are asked for in a transaction. */
  #setAt(resources: ResourcesAt, namespace: string): Promise<RuleSet> {
    let sets = this.#setsAt.get(resources)
    if (!sets) this.#setsAt.set(resources, (sets = new Map()))
    let set = sets.get(namespace)
    if (!set) {
      set = Promise.all([...wantedBy([namespace])].map((one) => resources.rules(one))).then(
        (rows) => this.#setOf(namespace, this.#keepAll(rows.flat(), rows.length)),
        (error: unknown) => {
          sets.delete(namespace)
          return unreadableRules(error instanceof Error ? error.message : String(error))
        },
      )
      sets.set(namespace, set)
    }
    return set
  }

  async #endpoints(on: Queryable, asked: readonly AskedModel[]): Promise<(AskedEndpoint & { namespace: string })[]> {
    const refs = asked.map(({ namespace, endpoint }) => ({ kind: 'ModelEndpoint', namespace, name: endpoint }))
    const rows = await findResources(on, refs)
    return rows.map((row) => ({ namespace: row.namespace, ...readEndpoint(row) }))
  }

  /** The rules of all namespaces that are asked about, and what they look at of the runs. */
  async #rules(
    on: Queryable,
    asked: readonly AskedRun[],
  ): Promise<{ rulesOf(namespace: string): RuleSet; factsOf(one: AskedRun): RunFacts }> {
    const namespaces = [...new Set(asked.map(({ namespace }) => namespace))]
    const sets = new Map<string, RuleSet>()
    let facts: ReadonlyMap<string, RunFacts> = new Map()
    try {
      const kept = await this.#load(on, namespaces)
      for (const namespace of namespaces) sets.set(namespace, this.#setOf(namespace, kept))
      const inNeed = asked.flatMap(({ namespace, runId }) =>
        runId !== null && sets.get(namespace)?.policies.some(looksAtRun) ? [runId] : [],
      )
      if (inNeed.length > 0) facts = await this.#facts(on, inNeed)
    } catch (error) {
      if (isRetryableConflict(error)) throw error
      const problem = error instanceof Error ? error.message : String(error)
      this.#ctx.log.error('rules cannot be read: everything is denied', { namespaces, error: problem })
      for (const namespace of namespaces) sets.set(namespace, unreadableRules(problem))
    }
    return {
      rulesOf: (namespace) => sets.get(namespace) ?? unreadableRules('they were not read'),
      factsOf: ({ runId, workflow }) => (runId === null ? undefined : facts.get(runId)) ?? loneRun(workflow),
    }
  }

  #setOf(namespace: string, kept: readonly Kept[]): RuleSet {
    const near = kept.filter(
      ({ rule }) => rule.namespace === namespace || rule.namespace === governingNamespace(namespace),
    )
    return ruleSetOf(
      namespace,
      near.flatMap((one) => (one.kind === 'Policy' ? [one.rule] : [])),
      near.flatMap((one) => (one.kind === 'Role' ? [one.rule] : [])),
    )
  }

  async #load(on: Queryable, namespaces: readonly string[]): Promise<Kept[]> {
    const wanted = wantedBy(namespaces)
    return this.#keepAll(await listRules(on, [...wanted], [...this.#read.keys()]), wanted.size)
  }

  #keepAll(rows: readonly StoredRule[], namespaces: number): Kept[] {
    if (rows.length > LIMITS.rulesReadMax * namespaces)
      throw new Error(`there are more than ${rows.length - 1} policies and roles`)
    if (this.#read.size > LIMITS.rulesReadMax) this.#read.clear()
    return rows.map((row) => this.#keep(row))
  }

  #keep({ kind, namespace, name, uid, resource_version, spec }: StoredRule): Kept {
    const known = this.#read.get(resource_version)
    if (known) return known
    if (spec === null) throw new Error(`${kind} ${name} was not read`)
    const row = { kind, namespace, name, uid, version: resource_version, spec }
    const kept: Kept = kind === 'Policy' ? { kind, rule: readPolicyRow(row) } : { kind, rule: readRoleRow(row) }
    this.#read.set(resource_version, kept)
    return kept
  }

  async #facts(on: Queryable, runIds: readonly string[]): Promise<Map<string, RunFacts>> {
    const rows = await readRunFacts(on, runIds)
    return new Map(
      [...rows].map(([id, { labels, workflows, depth, runs_below: runsBelow }]) => [
        id,
        { labels, workflows, depth, runsBelow },
      ]),
    )
  }

  /** Denials are written down with the rule and a hash of the arguments, in the transaction that records them; of an agent that tries again and again not each. */
  async #audit(
    on: Queryable,
    denied: readonly {
      call: AskedRun
      agent: string | null
      action: string
      object: string
      details: JsonObject & { rule: RuleName | JsonObject[string] }
    }[],
  ): Promise<void> {
    const entries = denied.flatMap(({ call, agent, action, object, details }): AuditEntry[] => {
      const actor = agent === null ? `workflow/${call.workflow}` : `agent/${agent}`
      if (!this.#denials.isNews(`${call.namespace} ${actor}`, `${action} ${object} ${String(details.rule)}`)) return []
      return [
        {
          id: this.#ctx.ids.make('audit'),
          actor,
          role: agent === null ? 'workflow' : 'agent',
          about: { namespace: call.namespace },
          action,
          object,
          outcome: 'denied',
          requestId: null,
          details: { ...details, run: call.runId, workflow: call.workflow },
        },
      ]
    })
    await recordAudit(on, entries)
  }
}

/** Namespaces whose rules may hold in these. */
const wantedBy = (namespaces: readonly string[]): Set<string> =>
  new Set(namespaces.flatMap((one) => [one, governingNamespace(one)]))

function readEndpoint({ name, spec }: { name: string; spec: JsonObject }): AskedEndpoint {
  const read = modelEndpointSpecSchema.safeParse(spec)
  return { name, spec: read.success ? read.data : null }
}

const denialOf = (call: AskedCall, { rule, code }: Denial) => {
  const { agent, tool, operation, input } = call
  const details = { tool, operation, rule, code, inputSha256: hashOf(input) }
  return { call, action: 'tools.call', object: tool, agent, details }
}

const subjectOf = ({ namespace, agent }: AskedRun, { labels, workflows }: RunFacts): Subject => ({
  namespace,
  agent,
  labels,
  workflows,
})

/** Whether it takes more than the names in the question to tell what a policy says. */
const looksAtRun = ({ spec }: ReadPolicy): boolean =>
  spec === null ||
  spec.delegation !== undefined ||
  spec.appliesTo?.labels !== undefined ||
  spec.appliesTo?.workflows !== undefined
