import type { StepManifest } from './schema.ts'
import type { SecretRef } from './secrets.ts'
import { bareExpression } from './template.ts'
import type { CommandNode, Join, Matrix, OutputRule, Turns, WaitNode, WorkflowNode } from './workflow.ts'
import { parseWorkflowRef } from './workflow-ref.ts'
import { LIMITS } from './limits.ts'

/**
 * The node of a step whose manifest is in order. `needs` and `refs` are node numbers; `numberOf` gives that of a step by its name; `turns` of a
 * step that takes some.
 */
export function nodeOf(
  step: StepManifest,
  {
    needs,
    refs,
    numberOf,
    turns,
  }: { needs: number[]; refs: number[]; numberOf: (name: string) => number; turns: Turns | null },
): WorkflowNode {
  const common = { ...commonOf(step, needs, refs), ...(turns ? { turns } : {}) }
  const [plain, asked] = partEnv(step.env ?? {})
  const secrets = { ...asked, ...step.secrets }
  const withSecrets = Object.keys(secrets).length > 0 ? { secrets } : {}
  const files = step.files?.map((want) => ({ ...want, from: numberOf(want.from) }))
  const withFiles = files ? { files } : {}
  if (step.function !== undefined)
    return { ...common, ...withSecrets, ...withFiles, kind: 'function', function: step.function, with: step.with ?? {} }
  if (step.agent !== undefined) return { ...common, kind: 'agent', agent: step.agent, with: step.with ?? {} }
  if (step.tool !== undefined) return { ...common, kind: 'tool', tool: step.tool, with: step.with ?? {} }
  if (step.route !== undefined) {
    const { model, question, to, fallback } = step.route
    const options = Object.entries(to).map(([name, when]) => ({ step: name, when }))
    return { ...common, kind: 'route', model, question, options, fallback: fallback ?? null }
  }
  if (step.wait !== undefined) return { ...common, kind: 'wait', for: waitOf(step.wait) }
  if (step.approval !== undefined) {
    const { message, approvers, expires, inputs } = step.approval
    return {
      ...common,
      kind: 'approval',
      message,
      approvers: approvers ?? null,
      expiresMs: expires ?? null,
      onExpiry: step.approval.default ?? 'deny',
      fields: inputs ?? null,
    }
  }
  if (step.workflow !== undefined)
    return { ...common, kind: 'workflow', ref: parseWorkflowRef(step.workflow), with: step.with ?? {} }
  if (step.definition !== undefined)
    return { ...common, kind: 'workflow', ref: { hash: step.definition }, with: step.with ?? {} }
  return {
    ...common,
    ...withSecrets,
    kind: 'command',
    command: step.command ?? [],
    env: plain,
    stdin: step.stdin ?? null,
    workdir: step.workdir ?? null,
    keepOnFailureMs: step.keepOnFailure ?? null,
    artifacts: (step.artifacts ?? []).map(({ path, retention, when, optional }) => ({
      path,
      retentionMs: retention,
      always: when === 'always',
      optional,
    })),
    ...withFiles,
    ...extrasOf(step),
  }
}

/** What is absent where it is not used, so that the definition of a plain command stays what it was. */
function extrasOf(step: StepManifest): Partial<CommandNode> {
  const { setUp, tearDown, tearDownTimeout, output, exportEnv } = step
  return {
    ...(setUp ? { setUp } : {}),
    ...(tearDown ? { tearDown: { commands: tearDown, timeoutMs: tearDownTimeout ?? LIMITS.tearDownMs } } : {}),
    ...(output ? { output: outputOf(output) } : {}),
    ...(exportEnv ? { exportEnv } : {}),
  }
}

function outputOf(output: NonNullable<StepManifest['output']>): OutputRule {
  if (output === 'files') return { from: 'artifacts' }
  if (typeof output === 'string') return { from: 'stdout', as: output }
  return { from: 'file', path: output.file, as: output.as }
}

/** Plain variables, and those whose value is a secret. */
function partEnv(env: NonNullable<StepManifest['env']>): [Record<string, string>, Record<string, SecretRef>] {
  const plain: Record<string, string> = {}
  const asked: Record<string, SecretRef> = {}
  for (const [name, value] of Object.entries(env))
    if (typeof value === 'string') plain[name] = value
    else asked[name] = value
  return [plain, asked]
}

function commonOf(step: StepManifest, needs: number[], refs: number[]) {
  const { retry } = step
  return {
    name: step.name,
    needs,
    join: joinOf(step, needs.length),
    if: step.if === undefined ? null : sourceOf(step.if),
    forEach: step.forEach ?? null,
    matrix: step.matrix === undefined ? null : matrixOf(step.matrix),
    loop: step.loop === undefined ? null : { until: sourceOf(step.loop.until), max: step.loop.max },
    maxParallel: step.maxParallel ?? null,
    retry: {
      max: retry.max,
      initialMs: retry.initial,
      maxMs: retry.maxDelay,
      factor: retry.factor,
      jitter: retry.jitter,
      on: retry.on,
    },
    timeoutMs: step.timeout ?? null,
    queueTimeoutMs: step.queueTimeout ?? null,
    outputSchema: step.outputSchema ?? null,
    onFailure: step.onFailure,
    repeatable: step.repeatable,
    runsOn: step.runsOn,
    refs,
  }
}

/** The turns of a step of a ring. `targets` are the node numbers of what it names in `next`. */
export const turnsOf = (
  { next = [], maxTurns }: StepManifest,
  { targets, max, begins }: { targets: readonly number[]; max: number | undefined; begins: boolean },
): Turns => ({
  max: maxTurns ?? max ?? LIMITS.turnsMax,
  begins,
  next: next.map((way, i) => {
    const condition = typeof way === 'string' ? undefined : way.if
    return { node: targets[i] ?? 0, if: condition === undefined ? null : sourceOf(condition) }
  }),
})

const sourceOf = (text: string): string => bareExpression(text) ?? text

function joinOf({ join, rest }: StepManifest, total: number): Join | null {
  if (join === 'all') return null
  const need = join === 'any' ? 1 : 'count' in join ? join.count : Math.max(1, Math.ceil((join.percent * total) / 100))
  return { need, rest: rest ?? 'finish' }
}

function matrixOf({ include, exclude, ...axes }: NonNullable<StepManifest['matrix']>): Matrix {
  // The schema has seen that each axis is a list or a text.
  return { axes: axes as Matrix['axes'], include: include ?? [], exclude: exclude ?? [] }
}

function waitOf(wait: NonNullable<StepManifest['wait']>): WaitNode['for'] {
  if (wait.until !== undefined) return { type: 'until', at: wait.until }
  if (wait.event !== undefined) {
    const match = wait.match === undefined ? null : sourceOf(wait.match)
    return { type: 'event', name: wait.event, match, timeoutMs: wait.timeout ?? null }
  }
  return { type: 'duration', duration: wait.duration ?? '0s' }
}
