import { errorOfRecord } from '../../contract/problem.ts'
import type { TokenCap } from '../../domain/agents/rules/worker-rules.ts'
import type { ModelResult } from '../../domain/model-call.ts'
import type { EngineContext } from '../context.ts'
import { openBudgets, type CallKey, type Spender } from '../budgets/budgets.ts'
import type { AskedRun } from './gate.ts'

/** In place of a node: no step makes the call, so that it does not end with one. */
const NO_STEP = -1

/**
 * One call of a model that no journal knows: of a person, or for a memory. What it may take at most is set aside before, and what it took is counted:
 * for the agent and the run that it is made for, or for the namespace and the endpoint alone. Nobody waits for a budget here.
 */
export class LoneCall {
  readonly #ctx: Pick<EngineContext, 'db' | 'budgets'>
  readonly #key: CallKey
  readonly #by: Omit<Spender, 'endpoint'>
  #endpoint = ''

  constructor(ctx: Pick<EngineContext, 'db' | 'budgets' | 'ids'>, { namespace, workflow, runId, agent }: AskedRun) {
    this.#ctx = ctx
    this.#key = { runId: runId ?? '', node: NO_STEP, path: '', fence: 0, generation: 0, call: ctx.ids.make('request') }
    this.#by = { namespace, workflow, agent: agent ?? '' }
  }

  /** Sets aside; what was set aside for another endpoint before is free again. Throws `budget.*` and `policy.denied`. */
  async setAside(
    endpoint: string,
    { tokens, caps }: { tokens: { input: number; output: number }; caps: readonly TokenCap[] },
  ): Promise<void> {
    const { db, budgets = openBudgets } = this.#ctx
    this.#endpoint = endpoint
    const wish = { ...this.#key, ...this.#by, endpoint, tokens, caps, isLone: true }
    const [refusal] = await db.transaction((tx) => budgets.reserve(tx, [wish]))
    if (refusal) throw errorOfRecord(refusal.failure)
  }

  /** It has ended with what it took, or without an answer. */
  async end(took: Pick<ModelResult, 'endpoint' | 'model' | 'usage' | 'cost'> | null): Promise<void> {
    const { db, budgets = openBudgets } = this.#ctx
    const ended = took ?? { endpoint: this.#endpoint, usage: null, cost: null }
    await db.transaction((tx) => budgets.settle(tx, [{ ...this.#key, ...this.#by, ...ended }]))
  }

  /** It has ended without an answer. What cannot be given back now is free again after an hour. */
  async giveUp(): Promise<void> {
    await this.end(null).catch(() => {})
  }
}
