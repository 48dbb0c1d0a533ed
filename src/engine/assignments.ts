import type { Json, JsonObject } from '../base/json.ts'
import { rememberRunTrace } from '../base/run-traces.ts'
import { formatTraceparent, traceIdOfId, traceOfRun } from '../base/trace.ts'
import type { Assignment } from '../contract/exchange.ts'
import type { Scope } from '../domain/expression.ts'
import { Failure, type FailureRecord } from '../domain/failure.ts'
import { scopeOfActivation } from '../domain/activation-scope.ts'
import { ringOf } from '../domain/rings.ts'
import { isObject } from '../domain/placed-problem.ts'
import { displayName, indexOf, pathOf } from '../domain/step.ts'
import { evaluateTemplate } from '../domain/template.ts'
import { wayOf } from '../domain/turn-way.ts'
import { type Definition, isWork, type WorkflowNode, type WorkNode } from '../domain/workflow.ts'
import { assert } from '../base/assert.ts'
import type { LeasedStep } from '../store/steps/complete-steps.ts'
import { loadInputs } from '../store/runs/read-runs.ts'
import { loadOutputs } from '../store/steps/step-rows.ts'
import { secretsOf } from './assignment-secrets.ts'
import { importedEnv, loadImports } from './imports.ts'
import { noteSecretUse } from './secret-use.ts'
import { plainNamespace } from '../domain/tenancy.ts'
import type { EngineContext } from './context.ts'
import type { Compiled } from './definitions.ts'
import { stepIdOf } from './step-id.ts'

export type Rendered =
  | { kind: 'assignment'; leased: LeasedStep; assignment: Assignment }
  /** A template could not be evaluated: the attempt fails before it is sent. */
  | { kind: 'failed'; leased: LeasedStep; failure: FailureRecord }

/**
 * Makes assignments of leased steps: loads what their templates read and evaluates them. At most four queries however many steps,
 * none when no template reads outputs or inputs and no step asks for secrets or is handed variables.
 */
export async function renderAssignments(ctx: EngineContext, leased: readonly LeasedStep[]): Promise<Rendered[]> {
  if (leased.length === 0) return []
  const compiled = new Map<string, Compiled>()
  for (const step of leased) {
    if (!compiled.has(step.definition)) compiled.set(step.definition, await ctx.definitions.get(step.definition))
  }
  const at = (step: LeasedStep) => {
    const c = compiled.get(step.definition)
    const node = c?.definition.nodes[step.node]
    assert(c && node, `definition ${step.definition} has no node ${step.node}`)
    return { c, node }
  }
  const wanted = new Map<string, { runId: string; node: number; path: string }>()
  const without = new Set<string>()
  for (const step of leased) {
    const { c, node } = at(step)
    if (step.inputs === undefined && c.readsInputs[step.node]) without.add(step.runId)
    if (!c.isConstant[step.node])
      for (const ref of node.refs) {
        const path = pathRead(c, step, ref)
        if (path !== null) wanted.set(`${step.runId}.${ref}.${path}`, { runId: step.runId, node: ref, path })
      }
  }
  const outputs = new Map<string, { state: string; output: Json }>()
  if (wanted.size > 0) {
    for (const row of await loadOutputs(ctx.db, [...wanted.values()]))
      outputs.set(`${row.run_id}.${row.node}.${row.path}`, row)
  }
  const inputs = without.size > 0 ? await loadInputs(ctx.db, [...without]) : null
  const asking = leased.map((step) => ({ step, node: at(step).node, namespace: at(step).c.definition.namespace }))
  const secrets = await secretsOf(ctx.secretResolver, asking)
  if (secrets.size > 0) await noteSecretUse(ctx, asking, secrets)
  const imports = await loadImports(ctx, asking)
  return leased.map((leasedStep) => {
    const step = inputs?.has(leasedStep.runId) ? { ...leasedStep, inputs: inputs.get(leasedStep.runId) } : leasedStep
    const { c, node } = at(step)
    try {
      const scope = c.isConstant[step.node] ? null : scopeOf(c, step, node, outputs)
      const values = secrets.get(leasedStep)
      if (values instanceof Failure) throw values
      const given =
        node.kind === 'command' && node.importEnv
          ? importedEnv(c.definition, { step, importEnv: node.importEnv }, imports)
          : null
      const assignment = { ...assignmentOf(c, step, node, scope, given), ...traceFor(ctx, step) }
      return { kind: 'assignment', leased: step, assignment: values ? { ...assignment, secrets: values } : assignment }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      return { kind: 'failed', leased: step, failure: error.toRecord() }
    }
  })
}

/** Of a step that has taken no turn on the way. */
const NOT_YET = { output: null, state: 'pending' }

/** Which activation of a node a step reads: of its own ring the turn that came last on its way, null where none did. */
function pathRead({ definition }: Compiled, { node, path, item }: LeasedStep, ref: number): string | null {
  const { turns } = definition.nodes[node] ?? {}
  if (turns === undefined || path === '' || !ringOf(definition, node).includes(ref)) return ''
  const index = wayOf(item as Json)[ref] // jsonb
  return index === undefined ? null : pathOf(index)
}

function scopeOf(
  c: Compiled,
  step: LeasedStep,
  node: WorkflowNode,
  outputs: ReadonlyMap<string, { state: string; output: Json }>,
): Scope {
  const { definition } = c
  const steps: Scope['steps'] = {}
  for (const ref of node.refs) {
    const path = pathRead(c, step, ref)
    const found = path === null ? NOT_YET : outputs.get(`${step.runId}.${ref}.${path}`)
    if (found) steps[definition.nodes[ref]?.name ?? ''] = { output: found.output, state: found.state }
  }
  const scope = {
    inputs: (step.inputs ?? {}) as JsonObject, // checked to be an object when the run is created
    steps,
    run: { id: step.runId, workflow: definition.name, namespace: plainNamespace(definition.namespace) },
  }
  return scopeOfActivation(scope, node, { path: step.path, item: step.item as Json }) // jsonb
}

function assignmentOf(
  c: Compiled,
  step: LeasedStep,
  node: WorkflowNode,
  scope: Scope | null,
  given: Record<string, string> | null,
): Assignment {
  const { definition } = c
  assert(isWork(node), `step ${stepIdOf(step)} is work of the engine and never leased`)
  return {
    step: stepIdOf(step),
    fence: step.fence,
    runId: step.runId,
    name: displayName(node.name, step.path),
    workflow: definition.name,
    namespace: plainNamespace(definition.namespace),
    tries: step.tries,
    timeoutMs: node.timeoutMs,
    repeatable: node.repeatable,
    path: step.path === '' ? [] : [indexOf(step.path)],
    outputSchema: node.outputSchema,
    work: workOf(node, scope, { given, definition }),
  }
}

/** What the worker cannot make of the run's id itself. */
function traceFor(ctx: EngineContext, { runId, trace = null }: LeasedStep): Pick<Assignment, 'traceparent'> {
  if (trace === null && (!ctx.tracer || ctx.tracer.samplesRoot(traceIdOfId(runId)))) return {}
  const span = traceOfRun(runId, trace)
  if (trace !== null) rememberRunTrace(runId, trace)
  return { traceparent: formatTraceparent({ ...span, sampled: trace === null ? false : span.sampled }) }
}

function workOf(
  node: WorkNode,
  scope: Scope | null,
  { given, definition }: { given: Record<string, string> | null; definition: Definition },
): Assignment['work'] {
  const value = (template: Json): Json => (scope ? evaluateTemplate(template, scope) : template)
  const text = (template: string, what: string): string => {
    const got = value(template)
    if (typeof got === 'string') return got
    if (typeof got === 'number' || typeof got === 'boolean') return String(got)
    throw new Failure(
      'expression.unresolved',
      `filling in ${what}: ${template} gives ${got === null ? 'null' : typeof got}, not text`,
    )
  }
  if (node.kind === 'route') {
    const { kind, model, options, fallback } = node
    return { kind, model, question: text(node.question, 'route.question'), options, fallback }
  }
  if (node.kind === 'agent' || node.kind === 'tool') {
    const { bound } = definition
    assert(bound, `definition ${definition.name} binds what its agent steps refer to`)
    const input = value(node.with)
    if (node.kind === 'agent') return { kind: 'agent', agent: node.agent, input, bound }
    if (isObject(input)) return { kind: 'tool', tool: node.tool, input, bound }
    const got = Array.isArray(input) ? 'a list' : input === null ? 'null' : typeof input
    throw new Failure('input.invalid', `calling tool ${node.tool}: with gives no map`, { evidence: { got } })
  }
  const nameOf = (i: number): string => definition.nodes[i]?.name ?? ''
  const files = node.files?.map(({ from, path, optional }) => ({ from: nameOf(from), path, optional }))
  const withFiles = files ? { files } : {}
  if (node.kind === 'function')
    return { kind: 'function', function: node.function, input: value(node.with), ...withFiles }
  const stage = (commands: string[][], what: string): string[][] =>
    commands.map((argv, i) => argv.map((arg, j) => text(arg, `${what}[${i}][${j}]`)))
  const { setUp, tearDown, output, exportEnv } = node
  return {
    kind: 'command',
    command: node.command.map((arg, i) => text(arg, `command[${i}]`)),
    env: { ...given, ...Object.fromEntries(Object.entries(node.env).map(([k, v]) => [k, text(v, `env.${k}`)])) },
    stdin: node.stdin === null ? null : text(node.stdin, 'stdin'),
    workdir: node.workdir === null ? null : text(node.workdir, 'workdir'),
    keepOnFailureMs: node.keepOnFailureMs,
    ...(node.artifacts.length > 0 ? { artifacts: node.artifacts } : {}),
    ...withFiles,
    ...(setUp ? { setUp: stage(setUp, 'setUp') } : {}),
    ...(tearDown ? { tearDown: { ...tearDown, commands: stage(tearDown.commands, 'tearDown') } } : {}),
    ...(output ? { output } : {}),
    ...(exportEnv ? { exportEnv } : {}),
  }
}
