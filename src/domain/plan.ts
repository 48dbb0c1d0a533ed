import type { Json, JsonObject } from '../base/json.ts'
import { compileExpression, type Scope } from './expression.ts'
import { Failure, type FailureRecord } from './failure.ts'
import { LIMITS } from './limits.ts'
import { combinationsOf } from './matrix.ts'
import { contracted } from './compile-rings.ts'
import { ringOf } from './rings.ts'
import { bareExpression, evaluateCondition, evaluateTemplate, parseTemplate } from './template.ts'
import { type Definition, isWork, needOf, requirementsOf, takesFiles, type WorkflowNode } from './workflow.ts'

/** What can be said of a step before anything runs. */
export type Verdict =
  | { is: 'runs' }
  | { is: 'skipped'; because: string }
  /** Only the run can tell; `on` names what it depends on. */
  | { is: 'open'; on: string[] }
  /** It would fail before anything of it begins. */
  | { is: 'fails'; failure: FailureRecord }

export interface PlannedStep {
  name: string
  kind: WorkflowNode['kind']
  /** 1 for steps without needs, else one more than the latest of them. */
  stage: number
  needs: string[]
  /** Needs that have to end well, when not all. */
  need: number | null
  verdict: Verdict
  /** How many activations it spreads into: null when it is one, or `open` when only the run can tell. */
  activations: number | 'open' | null
  /** Of a step that takes turns: how many at most, and what may follow each. */
  turns: { max: number; next: { step: string; if: string | null }[] } | null
  /** What a worker must offer; null for what the engine itself begins and ends. */
  requires: { backend: string; module: string | null; labels: Record<string, string> } | null
  retries: number
  timeoutMs: number | null
  /** Of a command that has more than itself; absent where there is nothing to say. */
  extras?: PlannedExtras
}

export interface PlannedExtras {
  /** How many commands run before it and after it. */
  setUp?: number
  tearDown?: number
  /** What becomes its output: the standard output, a path, or the list of its artifacts. */
  output?: string
  /** What it writes to $ORRERY_ENV becomes variables of the commands behind it. */
  exportsEnv?: true
  /** Steps whose variables it is given. */
  envFrom?: string[]
  /** Files that it is given, as `STEP: PATTERN`. */
  files?: string[]
}

export interface Plan {
  workflow: string
  namespace: string
  inputs: JsonObject
  timeoutMs: number | null
  failFast: boolean
  /** In an order in which needs come first. */
  steps: PlannedStep[]
}

/** What a run with these inputs would do, as far as it can be known without running anything. Pure. */
export function planOf(definition: Definition, inputs: JsonObject): Plan {
  const { name, namespace, timeoutMs, failFast, nodes } = definition
  const scope: Scope = { inputs, steps: {}, run: { id: '', workflow: name, namespace } }
  const stages = stagesOf(definition)
  const nameOf = (n: number): string => nodes[n]?.name ?? ''
  const steps = nodes.map((node, i): PlannedStep => {
    const { backend, module, labels } = requirementsOf(definition, node)
    const need = needOf(node)
    return {
      name: node.name,
      kind: node.kind,
      stage: stages[i] ?? 1,
      needs: node.needs.map(nameOf),
      need: need === node.needs.length ? null : need,
      ...decisionOf(node, scope),
      turns: node.turns
        ? { max: node.turns.max, next: node.turns.next.map((way) => ({ step: nameOf(way.node), if: way.if })) }
        : null,
      requires: isWork(node) ? { backend, module, labels } : null,
      retries: node.retry.max,
      timeoutMs: node.timeoutMs,
      ...extrasOf(node, nodes),
    }
  })
  const order = steps.map((step, i) => ({ step, i })).sort((a, b) => a.step.stage - b.step.stage || a.i - b.i)
  return { workflow: name, namespace, inputs, timeoutMs, failFast, steps: order.map(({ step }) => step) }
}

function extrasOf(node: WorkflowNode, nodes: readonly WorkflowNode[]): { extras?: PlannedExtras } {
  if (!takesFiles(node)) return {}
  const files = node.files ? { files: node.files.map(({ from, path }) => `${nodes[from]?.name ?? ''}: ${path}`) } : {}
  if (node.kind === 'function') return node.files ? { extras: files } : {}
  const { setUp, tearDown, output, exportEnv, importEnv } = node
  const extras: PlannedExtras = {
    ...(setUp ? { setUp: setUp.length } : {}),
    ...(tearDown ? { tearDown: tearDown.commands.length } : {}),
    ...(output ? { output: output.from === 'file' ? output.path : output.from } : {}),
    ...(exportEnv ? { exportsEnv: true as const } : {}),
    ...files,
    ...(importEnv ? { envFrom: importEnv.map((i) => nodes[i]?.name ?? '') } : {}),
  }
  return Object.keys(extras).length > 0 ? { extras } : {}
}

/** One pass over the graph: a node's stage is known once those of its needs are. What `next` joins is of one stage. */
function stagesOf(definition: Definition): number[] {
  const { nodes } = definition
  const rings = new Map(nodes.flatMap((node, i) => (node.turns ? [[i, ringOf(definition, i)] as const] : [])))
  const { needs, of } = contracted(
    nodes.map((node) => node.needs),
    rings,
  )
  const stages = nodes.map(() => 0)
  const open = needs.map((list) => list.length)
  const followers: number[][] = nodes.map(() => [])
  for (const [i, list] of needs.entries()) for (const need of list) followers[need]?.push(i)
  const order = [...nodes.keys()].filter((i) => open[i] === 0)
  for (const i of order) stages[i] = 1
  for (let at = 0; at < order.length; at++) {
    const from = order[at] ?? 0
    for (const to of followers[from] ?? []) {
      stages[to] = Math.max(stages[to] ?? 0, (stages[from] ?? 0) + 1)
      open[to] = (open[to] ?? 0) - 1
      if (open[to] === 0) order.push(to)
    }
  }
  return stages.map((_, i) => stages[of(i)] ?? 1)
}

function decisionOf(node: WorkflowNode, scope: Scope): Pick<PlannedStep, 'verdict' | 'activations'> {
  // Whether a turn is taken, and what its `if` then gives, only the run can tell; those that begin take one.
  if (node.turns) {
    const on = openReads(node.if === null ? [] : [node.if])
    const isSure = node.turns.begins && node.if === null
    return { verdict: isSure ? { is: 'runs' } : { is: 'open', on: on.length > 0 ? on : ['next'] }, activations: 'open' }
  }
  const waits = openReads(node.if === null ? [] : [node.if])
  try {
    if (node.if !== null && waits.length === 0 && !evaluateCondition(node.if, scope))
      return { verdict: { is: 'skipped', because: `if is false: ${node.if}` }, activations: null }
    const activations = activationsOf(node, scope)
    return { verdict: waits.length > 0 ? { is: 'open', on: waits } : { is: 'runs' }, activations }
  } catch (error) {
    if (error instanceof Failure) return { verdict: { is: 'fails', failure: error.toRecord() }, activations: null }
    throw error
  }
}

function activationsOf(node: WorkflowNode, scope: Scope): PlannedStep['activations'] {
  if (node.loop !== null) return 'open'
  const template: Json = node.matrix ? { ...node.matrix } : node.forEach
  if (template === null) return null
  if (openReads(sourcesIn(template)).length > 0) return 'open'
  if (node.matrix)
    return combinationsOf(node.matrix, scope, { what: `spreading step ${node.name}`, limit: LIMITS.forEachItemsMax })
      .length
  const items = evaluateTemplate(template, scope)
  if (Array.isArray(items)) return items.length
  throw new Failure('expression.unresolved', `spreading step ${node.name}: forEach gives no list`)
}

/** What these expressions read that only a run has. */
function openReads(sources: readonly string[]): string[] {
  const found = sources.flatMap((source) => {
    const compiled = compileExpression(bareExpression(source) ?? source)
    if (!compiled.ok) return []
    const { steps, reads } = compiled.expression
    return [...steps.map((step) => `steps.${step}`), ...reads.filter((r) => r.root === 'run').map(() => 'run')]
  })
  return [...new Set(found)]
}

function sourcesIn(template: Json): string[] {
  if (typeof template === 'string')
    return parseTemplate(template).parts.flatMap((part) => (part.kind === 'expression' ? [part.source] : []))
  if (typeof template !== 'object' || template === null) return []
  return Object.values(template).flatMap(sourcesIn)
}
