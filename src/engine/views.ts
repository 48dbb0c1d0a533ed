import type { AttemptView, RunSummary, StepView, WaitsOn } from '../contract/api-types.ts'
import { runStateShown } from '../domain/machines.ts'
import { displayName, pathOf, type StepKey } from '../domain/step.ts'
import { type Definition, spreads } from '../domain/workflow.ts'
import type { RunReadRow } from '../store/runs/read-runs.ts'
import type { AttemptReadRow, StepReadRow } from '../store/steps/read-steps.ts'
import { stepIdOf } from './step-id.ts'

const iso = (date: Date | null): string | null => date?.toISOString() ?? null

export function viewRun(row: Omit<RunReadRow, 'inputs'>): RunSummary {
  return {
    id: row.id,
    namespace: row.namespace,
    workflow: row.workflow,
    state: runStateShown(row),
    canceling: row.stop !== null && row.ended_at === null,
    epoch: row.epoch,
    createdAt: row.created_at.toISOString(),
    startedAt: iso(row.started_at),
    endedAt: iso(row.ended_at),
    labels: row.labels,
    steps: { total: row.total, open: row.open, bad: row.bad },
    failure: row.failure,
    parent:
      row.parent_run === null
        ? null
        : {
            run: row.parent_run,
            step: stepIdOf({ runId: row.parent_run, node: row.parent_node ?? 0, path: row.parent_path ?? '' }),
          },
  }
}

function viewAttempt(row: AttemptReadRow): AttemptView {
  return {
    fence: row.fence,
    state: row.state,
    worker: row.worker,
    startedAt: iso(row.started_at),
    endedAt: iso(row.ended_at),
    failure: row.failure,
  }
}

/** Where the workspace of the last failed attempt was kept, when it was. */
function keptOf(attempts: readonly AttemptReadRow[]): StepView['kept'] {
  for (const { failure, worker } of attempts.toReversed()) {
    const kept = failure?.evidence?.['kept']
    if (typeof kept !== 'object' || kept === null || Array.isArray(kept)) continue
    const { path, until } = kept
    if (typeof path === 'string' && typeof until === 'string') return { worker: worker ?? '', path, until }
  }
  return null
}

function waitsOnOf({ state, waits, waits_on: on, due_at: dueAt }: StepReadRow): WaitsOn | null {
  if (state !== 'waiting' || waits === null) return null
  return { kind: waits === 'children' ? 'activations' : waits, on, until: iso(dueAt) }
}

export function viewStep(
  runId: string,
  definition: Definition,
  row: StepReadRow,
  attempts: readonly AttemptReadRow[],
  reason: StepView['reason'],
): StepView {
  const node = definition.nodes[row.node]
  const own = attempts.filter((a) => a.node === row.node && a.path === row.path)
  const isGroup =
    row.path === '' &&
    node !== undefined &&
    (spreads(node) || node.turns !== undefined) &&
    (row.state === 'waiting' || row.released > 0)
  return {
    name: displayName(node?.name ?? '', row.path),
    id: stepIdOf({ runId, node: row.node, path: row.path }),
    kind: node?.kind ?? 'function',
    state: row.state,
    reason,
    needs: (node?.needs ?? []).map((i) => definition.nodes[i]?.name ?? ''),
    fence: row.fence,
    tries: row.tries,
    losses: row.losses,
    worker: row.worker,
    queuedAt: iso(row.queued_at),
    startedAt: iso(row.started_at),
    endedAt: iso(row.ended_at),
    output: row.output,
    failure: row.failure,
    kept: keptOf(own),
    attempts: own.map(viewAttempt),
    waitsOn: waitsOnOf(row),
    childRun: node?.kind === 'workflow' || row.waits === 'child' ? (row.waits_on?.split(' ')[0] ?? null) : null,
    activations: isGroup ? { total: row.total, succeeded: row.ok, failed: row.bad } : null,
  }
}

/** From a step's name with indices to its key. */
export function createNameIndex(definition: Definition): { find(name: string): StepKey | null } {
  const nodes = new Map(definition.nodes.map((n, i) => [n.name, i]))
  return {
    find(name) {
      const [, base = name, index] = /^(.*?)(?:\[(\d{1,5})\])?$/.exec(name) ?? []
      const node = nodes.get(base)
      return node === undefined ? null : { node, path: index === undefined ? '' : pathOf(Number(index)) }
    },
  }
}
