import type { AppendResponse } from '../../contract/exchange.ts'
import { askedCallOf, isOfStep } from '../../domain/agents/asked-call.ts'
import type { JournalEntry, WorkerEntry } from '../../domain/agents/journal.ts'
import type { AskedCall } from '../../domain/agents/verdict.ts'
import type { Definition } from '../../domain/workflow.ts'
import type { JournalAttempt } from '../../store/journal/hold-steps.ts'
import { stepIdOf } from '../step-id.ts'
import type { AskedModel } from './gate.ts'

/** One append whose attempt held its step a moment ago. */
export interface AppendItem extends JournalAttempt {
  n: number
  entries: readonly WorkerEntry[]
  definition: Definition
}

export type Answers = Map<AppendItem, AppendResponse>
export type Entry<K extends WorkerEntry['kind']> = Extract<WorkerEntry, { kind: K }>

export const STALE: AppendResponse = { state: 'stale', verdicts: {}, refused: null, contextVersion: '' }

/** Appends in groups in which every activation is named once; those of one attempt in the order of their numbers. */
export function inTurns(items: readonly AppendItem[]): AppendItem[][] {
  const turns: AppendItem[][] = []
  const taken = new Map<string, number>()
  for (const item of items.toSorted((a, b) => a.n - b.n)) {
    const key = stepIdOf(item)
    const at = taken.get(key) ?? 0
    taken.set(key, at + 1)
    ;(turns[at] ??= []).push(item)
  }
  return turns
}

/** Null when a step calls the tool by itself. */
export const agentIn = ({ definition, node }: AppendItem, agent: string): string | null =>
  definition.nodes[node]?.kind === 'agent' ? agent : null

/** What is none of the step's own is not even asked about. */
export const isOwn = ({ definition, node }: AppendItem, entry: Entry<'tool_asked' | 'model_asked'>): boolean =>
  isOfStep(definition.nodes[node], definition.bound, entry)

export const askedCallIn = (item: AppendItem, entry: Entry<'tool_asked'>): AskedCall =>
  askedCallOf(item.definition, item.runId, { ...entry, agent: agentIn(item, entry.agent) })

export const askedModelIn = (item: AppendItem, entry: Entry<'model_asked'>): AskedModel => ({
  ...spenderIn(item, entry),
  agent: agentIn(item, entry.agent),
  runId: item.runId,
})

export const spenderIn = ({ definition }: AppendItem, { agent, endpoint }: Entry<'model_asked'>) => {
  return { namespace: definition.namespace, workflow: definition.name, agent, endpoint }
}

export const verdictsIn = (entries: readonly JournalEntry[]): AppendResponse['verdicts'] =>
  Object.fromEntries(
    entries.flatMap((entry) =>
      entry.kind === 'verdict' ? [[entry.call, { verdict: entry.verdict, approval: entry.approval }]] : [],
    ),
  )
