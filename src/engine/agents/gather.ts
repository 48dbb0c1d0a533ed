import type { JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { filledIn, type Gathered, nothingGathered } from '../../domain/agents/gathered.ts'
import {
  type Reference,
  type ReferredKind,
  referencesOfAgent,
  referencesOfTool,
  referencesOfWorkflow,
} from '../../domain/agents/references.ts'
import { Failure } from '../../domain/failure.ts'
import { type AgentSpec, readAgent, sizeRemark } from '../../domain/kinds/agent.ts'
import { readInstructions } from '../../domain/kinds/instructions.ts'
import { readMcpServer } from '../../domain/kinds/mcp-server.ts'
import { readMemory } from '../../domain/kinds/memory.ts'
import { findKind } from '../../domain/kinds/registry.ts'
import { readTool } from '../../domain/kinds/tool.ts'
import { LIMITS } from '../../domain/limits.ts'
import { isWithin, organisationOf, plainNamespace, type Reach, storedNamespace } from '../../domain/tenancy.ts'
import type { Definition } from '../../domain/workflow.ts'
import { parseWorkflowRef, WORKFLOW_REF } from '../../domain/workflow-ref.ts'
import type { Queryable } from '../../store/db.ts'
import { findNewestDefinition } from '../../store/definitions/put-definition.ts'
import { findResources, listNames, listResources } from '../../store/resources/read-resources.ts'
import type { ResourceRef } from '../../store/resources/resource-rows.ts'
import { findStartable } from '../resources/start-of-workflow.ts'

/** What was read, to see later whether it is still so. `version` is that of the resource. */
export type SeenResource = ResourceRef & { version: number }

export interface Gathering {
  gathered: Gathered
  seen: SeenResource[]
  /** False: something was read whose changes no resource tells of. */
  isWhole: boolean
  /** What whoever starts a run should hear. */
  remarks: string[]
}

interface Deps {
  on: Queryable
  /** What the one who starts the run may see; null: everything. */
  sees: Reach
  inputsOf(hash: string): Promise<JsonObject | null>
}

/** Other namespaces that are named when something is not where it was looked for. */
const ELSEWHERE_MAX = 5

/**
 * Reads everything that can be reached from the agent, tool and route steps of a workflow: a query for each level of names. Throws
 * `agent.not_found` or `resource.not_found`, which name all that is missing, and `agent.too_large`.
 */
export async function gather(deps: Deps, definition: Definition): Promise<Gathering> {
  const { namespace } = definition
  const all: Gathering = { gathered: nothingGathered(), seen: [], isWhole: true, remarks: [] }
  const specs = new Map<string, AgentSpec>()
  const texts = new Map<string, string>()
  const known = new Set<string>()
  const missing: Reference[] = []
  let level = referencesOfWorkflow(definition)
  while (level.length > 0) {
    const fresh = level.filter((ref) => !known.has(keyOf(ref)))
    level = []
    for (const ref of fresh) known.add(keyOf(ref))
    const named = fresh.filter(({ kind }) => kind !== 'Workflow')
    const rows =
      named.length > 0
        ? await findResources(
            deps.on,
            named.map(({ kind, name }) => ({ kind, namespace, name })),
          )
        : []
    const found = new Set(rows.map((row) => keyOf(row as { kind: ReferredKind; name: string }))) // only those that were asked for
    missing.push(...unique(named).filter((ref) => !found.has(keyOf(ref))))
    for (const { kind, name, resource_version: version, spec } of rows) {
      all.seen.push({ kind, namespace, name, version })
      const { gathered } = all
      if (kind === 'Agent') {
        const agent = readAgent(spec)
        specs.set(name, agent)
        level.push(...referencesOfAgent(name, agent))
      } else if (kind === 'Tool') {
        const tool = readTool(spec)
        gathered.tools.set(name, tool)
        level.push(...referencesOfTool(name, tool))
      } else if (kind === 'Instructions') texts.set(name, readInstructions(spec).text)
      else if (kind === 'McpServer') gathered.mcpServers.set(name, readMcpServer(spec))
      else if (kind === 'Memory') gathered.memories.set(name, readMemory(spec))
      // Endpoints and roles are looked up anew at every call: here they only have to be there.
    }
    for (const ref of unique(fresh.filter(({ kind }) => kind === 'Workflow')))
      if (!(await addWorkflow(deps, all, ref, namespace))) missing.push(ref)
    if (specs.size > LIMITS.boundAgentsMax)
      throw new Failure('agent.too_large', `starting workflow ${plainNamespace(namespace)}/${definition.name}`, {
        evidence: { agents: specs.size, limit: LIMITS.boundAgentsMax },
      })
  }
  const [first] = missing
  if (first) throw await notFound(deps, definition, { first, missing })
  for (const [name, spec] of specs) {
    const instructions = filledIn(spec, (ref) => texts.get(ref) ?? '')
    checkSize(all, { name, spec, instructions, namespace })
    all.gathered.agents.set(name, { spec, instructions })
  }
  return all
}

const keyOf = ({ kind, name }: { kind: string; name: string }): string => `${kind} ${name}`

const unique = (refs: readonly Reference[]): Reference[] =>
  [...new Map(refs.toReversed().map((ref) => [keyOf(ref), ref])).values()].toReversed()

function checkSize(
  { remarks }: Gathering,
  { name, spec, instructions, namespace }: { name: string; spec: AgentSpec; instructions: string; namespace: string },
): void {
  const chars = instructions.length
  if (chars > LIMITS.instructionsChars) {
    const shared = spec.instructions.flatMap((part) => ('ref' in part ? [part.ref] : []))
    throw new Failure('agent.too_large', `filling in the instructions of agent ${plainNamespace(namespace)}/${name}`, {
      evidence: {
        agent: name,
        chars,
        limit: LIMITS.instructionsChars,
        ...(shared.length > 0 ? { instructions: shared } : {}),
      },
    })
  }
  const remark = sizeRemark(chars)
  if (remark !== null) remarks.push(`agent ${name}: ${remark}`)
}

/** The workflow that a tool runs, as `orrery run NAME` would start it now. False: there is none that starts. */
async function addWorkflow(deps: Deps, all: Gathering, { name: text }: Reference, namespace: string): Promise<boolean> {
  if (!WORKFLOW_REF.test(text)) return false
  const ref = parseWorkflowRef(text)
  const at = ref.namespace === undefined ? namespace : storedNamespace(organisationOf(namespace), ref.namespace)
  if (at !== namespace && !isWithin(deps.sees, at)) return false
  const which = { namespace: at, name: ref.name, version: ref.version ?? null }
  const found = await findStartable(deps.on, which)
  if (found.kind === 'found')
    all.seen.push({ kind: 'Workflow', namespace: at, name: ref.name, version: found.resource.resource_version })
  const hash =
    found.kind === 'found'
      ? found.start.definition
      : found.kind === 'absent' && which.version === null
        ? await findNewestDefinition(deps.on, which)
        : null
  if (hash === null) return false
  if (found.kind !== 'found') all.isWhole = false
  all.gathered.workflows.set(text, { hash, inputs: await deps.inputsOf(hash), description: null })
  return true
}

async function notFound(
  { on, sees }: Deps,
  { namespace, name: workflow }: Definition,
  { first, missing }: { first: Reference; missing: readonly Reference[] },
): Promise<Failure> {
  const { kind, name, by, field } = first
  const plain = plainNamespace(namespace)
  const what =
    { Agent: 'agent', Tool: 'tool', Memory: 'memory', Role: 'role', Workflow: 'workflow' }[kind as string] ?? kind
  const plural = findKind(kind)?.plural ?? `${what}s`
  const near = nearest(name, await listNames(on, { kind, namespace }, LIMITS.pageMax))
  const elsewhere = await listResources(
    on,
    { kind, namespaces: sees, name, terms: [] },
    { after: null, limit: ELSEWHERE_MAX },
  )
  const namespaces = elsewhere.map((row) => plainNamespace(row.namespace)).filter((other) => other !== plain)
  const others = missing.filter((ref) => ref !== first)
  const evidence: JsonObject = {
    kind,
    namespace: plain,
    name,
    by,
    field,
    ...(near === null ? {} : { nearest: near }),
    ...(namespaces.length > 0 ? { namespaces } : {}),
    ...(others.length > 0
      ? { missing: others.slice(0, 50).map((ref) => `${ref.kind} ${ref.name}, ${ref.field} of ${ref.by}`) }
      : {}),
  }
  const remediation =
    near !== null
      ? `Did you mean ${near}? Correct ${field} of ${by}, or store ${what} ${name} in namespace ${plain}: orrery apply -f FILE.`
      : namespaces.length > 0
        ? `There is a ${what} of this name in namespace ${namespaces.join(', ')}, and what ${by} names is looked for in namespace ${plain} alone: store it there too, or run the workflow there.`
        : `orrery get ${plural} -n ${plain} lists what there is; store ${what} ${name} with orrery apply -f FILE, or correct ${field} of ${by}.`
  const doing = `starting workflow ${plain}/${workflow}: ${by} names ${what} ${name} in ${field}`
  return new Failure(kind === 'Agent' ? 'agent.not_found' : 'resource.not_found', doing, { evidence, remediation })
}
