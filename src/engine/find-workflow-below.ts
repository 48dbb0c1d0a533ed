import type { JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import type { StoredWorkflow } from '../domain/advance/needs.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { isWithin, organisationOf, plainNamespace, storedNamespace } from '../domain/tenancy.ts'
import type { ChildNode } from '../domain/workflow.ts'
import type { WorkflowRef } from '../domain/workflow-ref.ts'
import type { Queryable } from '../store/db.ts'
import { findNewestDefinition, listDefinitionNames } from '../store/definitions/put-definition.ts'
import { listNames } from '../store/resources/read-resources.ts'
import { listVersions } from '../store/resources/resource-versions.ts'
import { findStarter } from '../store/runs/child-runs.ts'
import type { LockedRun } from '../store/steps/save-advance.ts'
import type { EngineContext } from './context.ts'
import { findStartable, type Startable } from './resources/start-of-workflow.ts'

type Above = Pick<LockedRun, 'id' | 'namespace' | 'depth' | 'definition'>

/** Versions that are named when none of those that were meant may start. */
const VERSIONS_SHOWN = 20
const NEWEST = 2 ** 31 - 1

/**
 * The workflow that a step wants to run below its run: by name as `orrery run NAME` would start it, or else the newest definition that
 * was stored by itself under that name. A definition of another namespace looks absent.
 */
export async function findWorkflowBelow(
  ctx: EngineContext,
  tx: Queryable,
  run: Above,
  ref: ChildNode['ref'],
): Promise<StoredWorkflow | Failure> {
  if (run.depth + 1 > LIMITS.childDepthMax)
    return new Failure('child.too_deep', `starting a workflow below ${run.id}`, {
      evidence: { depth: run.depth + 1, limit: LIMITS.childDepthMax },
    })
  return 'hash' in ref ? findByHash(ctx, tx, run, ref.hash) : findByName(ctx, tx, run, ref)
}

async function findByHash(
  ctx: EngineContext,
  tx: Queryable,
  run: Above,
  hash: string,
): Promise<StoredWorkflow | Failure> {
  const absent = () =>
    new Failure('child.definition_not_found', `starting definition ${hash} below ${run.id}`, {
      evidence: { namespace: plainNamespace(run.namespace), hash },
    })
  try {
    const { definition } = await ctx.definitions.get(hash, tx)
    const { name, inputs, labels, namespace } = definition
    const isKnown = namespace === run.namespace || (await isBoundTo(ctx, tx, run, hash))
    return isKnown ? await bound(ctx, tx, run, { hash, name, inputs, labels, note: null }) : absent()
  } catch (error) {
    if (error instanceof Failure && error.code === 'definition.not_found') return absent()
    throw error
  }
}

/** A tool of the run runs it: whether whoever started the run may see its namespace was looked at then. */
async function isBoundTo(ctx: EngineContext, tx: Queryable, run: Above, hash: string): Promise<boolean> {
  const { bound: kept } = (await ctx.definitions.get(run.definition, tx)).definition
  return Object.values(kept?.workflows ?? {}).some((workflow) => workflow.hash === hash)
}

async function findByName(
  ctx: EngineContext,
  tx: Queryable,
  run: Above,
  ref: WorkflowRef,
): Promise<StoredWorkflow | Failure> {
  const { name } = ref
  const namespace =
    ref.namespace === undefined ? run.namespace : storedNamespace(organisationOf(run.namespace), ref.namespace)
  const doing = `starting workflow ${textOf(namespace, ref)} below ${run.id}`
  // Before anything is looked up: what may not be seen is refused alike, whether it is there or not.
  if (namespace !== run.namespace) {
    const starter = await findStarter(tx, run.id)
    if (!starter || !isWithin(starter.reach, namespace))
      return new Failure('child.definition_forbidden', doing, {
        evidence: { namespace: plainNamespace(namespace), startedBy: starter?.name ?? null },
      })
  }
  const version = ref.version ?? null
  const found = await findStartable(tx, { namespace, name, version })
  switch (found.kind) {
    case 'found': {
      const { definition: hash, labels, warning } = found.start
      const { inputs } = (await ctx.definitions.get(hash, tx)).definition
      return bound(ctx, tx, run, { hash, name, inputs, labels, note: warning })
    }
    case 'no_version':
      return new Failure('child.definition_not_found', doing, {
        evidence: { namespace: plainNamespace(namespace), name, version, latest: found.latest },
        remediation: `Its versions go up to ${found.latest}. Name one of them, and retry the run with orrery runs retry ${run.id}.`,
      })
    case 'inactive':
      return inactive(tx, { doing, namespace, ref, found, run })
    case 'absent': {
      const hash = version === null ? await findNewestDefinition(tx, { namespace, name }) : null
      if (hash === null) return notFound(tx, { doing, namespace, ref, run })
      const { inputs, labels } = (await ctx.definitions.get(hash, tx)).definition
      return bound(ctx, tx, run, { hash, name, inputs, labels, note: null })
    }
  }
}

/** The same with what its steps of agents refer to now, or why it cannot start: a name that is not there. */
async function bound(
  ctx: EngineContext,
  tx: Queryable,
  run: Pick<Above, 'id'>,
  workflow: StoredWorkflow,
): Promise<StoredWorkflow | Failure> {
  const compiled = await ctx.definitions.get(workflow.hash, tx)
  if (!compiled.isOpen) return workflow
  const sees = (await findStarter(tx, run.id))?.reach ?? []
  try {
    const { hash, remarks } = await ctx.binder.bind(compiled, { sees, on: tx })
    const notes = [...(workflow.note === null ? [] : [workflow.note]), ...remarks]
    return { ...workflow, hash, note: notes.length > 0 ? notes.join('; ') : null }
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
}

const textOf = (namespace: string, { name, version }: WorkflowRef): string =>
  `${plainNamespace(namespace)}/${name}${version === undefined ? '' : `@${version}`}`

interface Asked {
  doing: string
  namespace: string
  ref: WorkflowRef
  run: Above
}

async function inactive(
  tx: Queryable,
  { doing, namespace, ref, found, run }: Asked & { found: Startable & { kind: 'inactive' } },
): Promise<Failure> {
  const versions = await listVersions(tx, found.uid, { below: NEWEST, limit: VERSIONS_SHOWN })
  const plain = plainNamespace(namespace)
  const evidence: JsonObject = {
    namespace: plain,
    name: ref.name,
    version: found.version,
    lifecycle: found.lifecycle,
    versions: versions.map(({ version, lifecycle }) => ({ version, lifecycle })),
  }
  const isItself = versions.some((v) => v.version === ref.version && v.lifecycle === found.lifecycle)
  const remediation =
    `No run starts from version ${found.version}, which is ${found.lifecycle}. Set spec.lifecycle: active with orrery edit workflow ${ref.name} -n ${plain}` +
    ` (a new version), and retry the run with orrery runs retry ${run.id}.` +
    (isItself ? ' This step names a version, which stays as it is: name the new one, in a new run.' : '')
  return new Failure('child.definition_inactive', doing, { evidence, remediation })
}

async function notFound(tx: Queryable, { doing, namespace, ref, run }: Asked): Promise<Failure> {
  const { name } = ref
  const stored = await listNames(tx, { kind: 'Workflow', namespace }, LIMITS.pageMax)
  const near = nearest(name, [...stored, ...(await listDefinitionNames(tx, namespace, LIMITS.pageMax))])
  const plain = plainNamespace(namespace)
  const evidence: JsonObject = { namespace: plain, name, ...(near === null ? {} : { nearest: near }) }
  if (near === null) return new Failure('child.definition_not_found', doing, { evidence })
  const remediation = `Did you mean ${near}? Correct the name in a new run, or store workflow ${name} in namespace ${plain} and retry this one with orrery runs retry ${run.id}.`
  return new Failure('child.definition_not_found', doing, { evidence, remediation })
}
