import { bytesOfEnv } from '../domain/exported-env.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Definition, WorkflowNode } from '../domain/workflow.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import { type ExportRow, loadExports } from '../store/steps/exported-env.ts'
import type { EngineContext } from './context.ts'

/** What steps that are about to be assigned are handed, by run and node. One query, and none when no step is handed anything. */
export async function loadImports(
  ctx: EngineContext,
  steps: readonly { step: LeasedStep; node: WorkflowNode }[],
): Promise<ReadonlyMap<string, ExportRow>> {
  const wanted = new Map<string, { runId: string; node: number }>()
  for (const { step, node } of steps)
    if (node.kind === 'command')
      for (const from of node.importEnv ?? []) wanted.set(`${step.runId}.${from}`, { runId: step.runId, node: from })
  if (wanted.size === 0) return new Map()
  const rows = await loadExports(ctx.db, [...wanted.values()])
  return new Map(rows.map((row) => [`${row.run_id}.${row.node}`, row]))
}

/** The variables of one step. Throws `env.too_large` when those of all steps before it are too much together. */
export function importedEnv(
  definition: Definition,
  { step, importEnv }: { step: LeasedStep; importEnv: readonly number[] },
  exports: ReadonlyMap<string, ExportRow>,
): Record<string, string> {
  const rows = importEnv.flatMap((node) => exports.get(`${step.runId}.${node}`) ?? [])
  const env = Object.assign({}, ...rows.map((row) => row.env)) as Record<string, string> // as they were checked when they came
  const bytes = bytesOfEnv(env)
  if (bytes <= LIMITS.importBytes) return env
  throw new Failure(
    'env.too_large',
    `gathering the variables for step ${definition.nodes[step.node]?.name ?? ''} of ${step.runId}`,
    {
      evidence: { bytes, limit: LIMITS.importBytes, from: rows.map((row) => definition.nodes[row.node]?.name ?? '') },
    },
  )
}
