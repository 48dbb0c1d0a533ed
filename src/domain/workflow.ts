import type { Json, JsonObject } from '../base/json.ts'
import type { Bound } from './agents/bound.ts'
import { needsOfStep } from './agents/step-needs.ts'
import type { SecretRef } from './secrets.ts'
import type { FileWant } from './wanted-files.ts'
import { isWithin, plainNamespace } from './tenancy.ts'
import type { WorkflowRef } from './workflow-ref.ts'

/**
 * A workflow as it is compiled from its manifest and stored: content-addressed, so a run holds its hash and later edits of the
 * manifest never touch it. Node numbers are positions in `nodes`.
 */
export interface Definition {
  namespace: string
  name: string
  labels: Record<string, string>
  /** JSON Schema (2020-12) of the run's inputs; null takes any object. */
  inputs: JsonObject | null
  failFast: boolean
  /** How long a run may take from its creation; null means for ever. */
  timeoutMs: number | null
  /** Module name to path as the author wrote it; workers load modules, the server never does. */
  modules: Record<string, string>
  nodes: WorkflowNode[]
  /** What its agent steps refer to, as it was when the run was created. Absent when it has none. */
  bound?: Bound
}

export interface RetryPolicy {
  /** Retries after the first failure. */
  max: number
  initialMs: number
  maxMs: number
  factor: number
  jitter: number
  /** Only these codes are retried; null means every failure of the step itself. */
  on: string[] | null
}

/** A forEach over a product: one activation for each way to take one value of every axis. */
export interface Matrix {
  /** Name of an axis to a list, or a template that gives one. */
  axes: Record<string, Json>
  /** Combinations that come on top. */
  include: Json
  /** Combinations that are left out: those that have all the values of one of these. */
  exclude: Json
}

/** The step runs again, turn by turn, until the condition holds. */
export interface Loop {
  /** CEL over `turn.output` and `turn.index`: what the last turn gave, and its number from 0. */
  until: string
  /** Turns at most. */
  max: number
}

/** One of the steps that may follow a turn. */
export interface Way {
  node: number
  /** CEL source without `${{ }}`; null means always. */
  if: string | null
}

/** A step that `next` joins to others, or to itself: it runs each time that a way leads to it. */
export interface Turns {
  /** Times that it may run; a retry of the run counts anew. */
  max: number
  /** Runs without being named once nothing outside holds its ring. */
  begins: boolean
  next: Way[]
}

/** How many of its needs have to end well. Null in a node means all. */
export interface Join {
  need: number
  /** What becomes of the needs that are still open when the join is met. */
  rest: 'finish' | 'cancel'
}

interface NodeCommon {
  name: string
  /** Node numbers that must end before this one. */
  needs: number[]
  join: Join | null
  /** CEL source without `${{ }}`; null means always. */
  if: string | null
  /** A template that gives a list; null means the step runs once. */
  forEach: Json | null
  /** Null when there is none; never beside forEach or loop. */
  matrix: Matrix | null
  /** Null when there is none; never beside forEach or matrix. */
  loop: Loop | null
  /** Absent when the step runs once; never beside forEach, matrix or loop. */
  turns?: Turns
  /** How many activations of a forEach run at once; null means no limit. */
  maxParallel: number | null
  retry: RetryPolicy
  timeoutMs: number | null
  /** How long the step may wait in its queue; null means for ever. */
  queueTimeoutMs: number | null
  /** JSON Schema of the output; null takes anything. */
  outputSchema: JsonObject | null
  onFailure: 'fail' | 'continue'
  /** True (the default): after a lost result the step may simply run again. */
  repeatable: boolean
  /** Labels that a worker must have; `worker` names the one worker that may take the step. */
  runsOn: Record<string, string>
  /** Nodes whose output the step's templates read. */
  refs: number[]
  /** Secrets that the step is given, by variable of a command or by alias of a function. Absent when it asks for none. */
  secrets?: Record<string, SecretRef>
}

/** Which files of its workspace a step leaves. */
export interface ArtifactRule {
  /** Pattern below the workspace, with forward slashes. */
  path: string
  retentionMs: number
  /** Also when the command failed. */
  always: boolean
  /** No failure when nothing fits. */
  optional: boolean
}

/** What becomes the output of a command; absent: the JSON that it writes to `$ORRERY_OUTPUT`. */
export type OutputRule =
  /** What the command prints on its standard output. */
  | { from: 'stdout'; as: 'json' | 'text' }
  /** A file below the workspace. */
  | { from: 'file'; path: string; as: 'json' | 'text' }
  /** A list of the files that `artifacts` gave to the server. */
  | { from: 'artifacts' }

export interface FunctionNode extends NodeCommon {
  kind: 'function'
  /** Files of earlier steps that it may read. Absent when there are none. */
  files?: FileWant[]
  /** `module.export`. */
  function: string
  /** Input template. */
  with: Json
}

export interface CommandNode extends NodeCommon {
  kind: 'command'
  /** argv as templates; never split by a shell. */
  command: string[]
  env: Record<string, string>
  /** Template; what the command reads on its standard input. */
  stdin: string | null
  /** Directory below the workspace, or an absolute path; a template. */
  workdir: string | null
  /** Keep the workspace of an attempt that failed, for this long. */
  keepOnFailureMs: number | null
  artifacts: ArtifactRule[]
  /** Files of earlier steps that lie in its workspace before anything runs. Absent when there are none. */
  files?: FileWant[]
  /** Commands before it, each as templates of an argv; the first that fails fails the step. Absent when there are none. */
  setUp?: string[][]
  /** Commands after it, whatever happened, with the time that all of them together have. */
  tearDown?: { commands: string[][]; timeoutMs: number }
  output?: OutputRule
  /** What it and its set-up write to `$ORRERY_ENV` becomes variables of the commands that come after it. */
  exportEnv?: true
  /** Steps whose variables it is given; of two that give the same, the later one here counts. */
  importEnv?: number[]
}

/** A worker runs the turns of an agent; what it waits for in between is waited for in rows. */
export interface AgentNode extends NodeCommon {
  kind: 'agent'
  /** Name of an agent of `Definition.bound`. */
  agent: string
  /** Template of what it is asked. */
  with: Json
}

/** A worker calls a tool once. */
export interface ToolNode extends NodeCommon {
  kind: 'tool'
  /** Name of a tool of `Definition.bound`. */
  tool: string
  /** Template of its input. */
  with: Json
}

/** A model picks one of several steps. The condition that only the chosen one runs stands in their `if`, or in the ways of this node. */
export interface RouteNode extends NodeCommon {
  kind: 'route'
  /** Name of a model endpoint. */
  model: string
  /** A template. */
  question: string
  /** Steps by name, each with what it is for. */
  options: { step: string; when: string }[]
  /** Step that is taken when the model names none; null: then it fails. */
  fallback: string | null
}

export interface WaitNode extends NodeCommon {
  kind: 'wait'
  for:
    | { type: 'duration'; duration: string }
    /** Both are templates: a duration such as 30s, and a time such as 2026-01-31T08:00:00Z. */
    | { type: 'until'; at: string }
    /** The name is a template; `match` is CEL over `event.payload`, null takes any event of the name. */
    | { type: 'event'; name: string; match: string | null; timeoutMs: number | null }
}

export interface ApprovalNode extends NodeCommon {
  kind: 'approval'
  /** A template: what the person is asked. */
  message: string
  /** Names of tokens or roles; null means whoever may decide approvals at all. */
  approvers: string[] | null
  expiresMs: number | null
  /** What counts when nobody has decided in time. */
  onExpiry: 'approve' | 'deny'
  /** JSON Schema of what the person gives along with the approval; null takes nothing. */
  fields: JsonObject | null
}

export interface ChildNode extends NodeCommon {
  kind: 'workflow'
  /** A stored workflow, or the hash of a definition. */
  ref: WorkflowRef | { hash: string }
  /** Template of the child's inputs. */
  with: Json
}

export type WorkflowNode =
  | FunctionNode
  | CommandNode
  | AgentNode
  | ToolNode
  | RouteNode
  | WaitNode
  | ApprovalNode
  | ChildNode

/** What a worker offers to take nodes of a kind; `engine`: they wait in rows. */
const BACKENDS: Record<WorkflowNode['kind'], Requirements['backend']> = {
  function: 'function',
  command: 'process',
  agent: 'agent',
  tool: 'agent',
  route: 'agent',
  wait: 'engine',
  approval: 'engine',
  workflow: 'engine',
}

/** Nodes that a worker executes. The others wait in rows: the engine itself begins and ends them. */
export type WorkNode = FunctionNode | CommandNode | AgentNode | ToolNode | RouteNode
export type ParkedNode = WaitNode | ApprovalNode | ChildNode

export const isWork = (node: WorkflowNode): node is WorkNode => BACKENDS[node.kind] !== 'engine'

/** Nodes that ask models or call tools. */
export const isOfAgents = (node: WorkflowNode): node is AgentNode | ToolNode | RouteNode =>
  BACKENDS[node.kind] === 'agent'

/** Nodes whose attempts write down what they do before they act on it, and may end for a while when they have to wait. */
export const isJournaled = (node: WorkflowNode | undefined): node is AgentNode | ToolNode | RouteNode =>
  node !== undefined && isOfAgents(node)

/** Nodes that may be given files of earlier steps. */
export const takesFiles = (node: WorkflowNode): node is FunctionNode | CommandNode =>
  node.kind === 'function' || node.kind === 'command'

/** Needs that have to end well before the node begins. */
export const needOf = (node: WorkflowNode): number => node.join?.need ?? node.needs.length

/** Whether the node spreads into activations of its own at once. */
export const spreads = (node: WorkflowNode): boolean =>
  node.forEach !== null || node.matrix !== null || node.loop !== null

/**
 * A plain node is readied by the statement that completes its last need. A decided one has to be looked at by the pure
 * function first.
 */
export const isDecided = (node: WorkflowNode): boolean =>
  node.if !== null || spreads(node) || node.turns !== undefined || !isWork(node) || node.join?.rest === 'cancel'

/** Whether a template of what a worker is sent may read the run's inputs. Errs on the side of saying so. */
export const readsInputs = (node: WorkflowNode): boolean =>
  isWork(node) &&
  JSON.stringify(
    node.kind === 'route'
      ? node.question
      : node.kind !== 'command'
        ? node.with
        : [node.command, node.env, node.stdin, node.workdir, node.setUp, node.tearDown?.commands],
  ).includes('inputs')

/** What an older worker may not know of. A worker names those that it has; a step waits for one that has what it uses. */
export const FEATURES = ['stages', 'output', 'exportEnv', 'files'] as const
export type Feature = (typeof FEATURES)[number]

function featuresOf(node: WorkflowNode): Feature[] {
  const files = takesFiles(node) && node.files ? (['files'] as const) : []
  if (node.kind !== 'command') return [...files]
  return [
    ...files,
    ...(node.setUp || node.tearDown ? (['stages'] as const) : []),
    ...(node.output ? (['output'] as const) : []),
    ...(node.exportEnv ? (['exportEnv'] as const) : []),
  ]
}

/** What a worker must offer to take a step. Two steps with equal requirements wait in one queue. */
export interface Requirements {
  namespace: string
  /** `engine`: no worker offers it, and nothing is ever queued for it. */
  backend: 'function' | 'process' | 'agent' | 'engine'
  /** Module that must be loaded; null where none is. */
  module: string | null
  /** Labels that the worker must have; `worker` is no label but the name of the one worker that may take the step. */
  labels: Record<string, string>
  /** What else it must know of; absent where every worker ever released will do. */
  features?: string[]
  /** What the server must find in the namespace before it gives the step to anybody. Absent where it looks for nothing. */
  ready?: {
    /** Names of model endpoints. */
    endpoints: string[]
    /** `NAME/KEY`. */
    secrets: string[]
  }
}

/** The key of `runsOn` that names a worker. No worker may have a label of this name. */
export const WORKER_PIN = 'worker'

function readyFor({ bound }: Definition, node: WorkflowNode): Pick<Requirements, 'ready'> {
  if (!bound || !isOfAgents(node)) return {}
  const { firstEndpoints, firstSecrets } = needsOfStep(node, bound)
  const endpoints = [...new Set(firstEndpoints)].sort()
  const secrets = [...new Set(firstSecrets.map(({ secret, key }) => `${secret}/${key}`))].sort()
  return endpoints.length + secrets.length > 0 ? { ready: { endpoints, secrets } } : {}
}

export function requirementsOf(definition: Definition, node: WorkflowNode): Requirements {
  const features = featuresOf(node)
  return {
    ...(features.length > 0 ? { features } : {}),
    ...readyFor(definition, node),
    namespace: definition.namespace,
    backend: BACKENDS[node.kind],
    module: node.kind === 'function' ? (node.function.split('.')[0] ?? '') : null,
    labels: node.runsOn,
  }
}

/** Canonical text of requirements: equal sets give equal keys. */
export function queueKey(r: Requirements): string {
  const labels = Object.keys(r.labels).sort()
  const features = r.features ? [r.features.toSorted()] : []
  const ready = r.ready ? [[r.ready.endpoints, r.ready.secrets]] : []
  return JSON.stringify([r.namespace, r.backend, r.module, labels.map((k) => [k, r.labels[k]]), ...features, ...ready])
}

/** What a worker offers. */
export interface Offer {
  /** Its name. */
  worker: string
  /** A reach: see tenancy.ts. */
  namespaces: string[] | null
  backends: string[]
  modules: string[]
  labels: Record<string, string>
  /** Absent or empty of workers from before there were any. */
  features?: readonly string[]
}

/** What `offer` lacks for `r`; empty when the worker may take the step. */
export function missingFor(r: Requirements, offer: Offer): string[] {
  const missing: string[] = []
  if (!isWithin(offer.namespaces, r.namespace)) missing.push(`namespace ${plainNamespace(r.namespace)}`)
  if (!offer.backends.includes(r.backend)) missing.push(`backend ${r.backend}`)
  if (r.module !== null && !offer.modules.includes(r.module)) missing.push(`module ${r.module}`)
  for (const feature of r.features ?? []) if (!offer.features?.includes(feature)) missing.push(`feature ${feature}`)
  for (const [key, value] of Object.entries(r.labels)) {
    if (key === WORKER_PIN) {
      if (offer.worker !== value) missing.push(`worker ${value}`)
    } else if (offer.labels[key] !== value) missing.push(`label ${key}=${value}`)
  }
  return missing
}
