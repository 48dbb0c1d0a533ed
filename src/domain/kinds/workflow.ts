import { compileValue } from '../manifest.ts'
import { type Lifecycle, workflowSpecSchema } from '../schema.ts'
import { type Condition, defineKind, READY } from './kind.ts'

export const workflowKind = defineKind({
  kind: 'Workflow',
  plural: 'workflows',
  shortNames: ['wf'],
  summary:
    'A named graph of steps. Each change of its spec is a new version; runs keep the one they were started with.',
  spec: workflowSpecSchema,
  isVersioned: true,
  columns: [
    { title: 'LIFECYCLE', text: ({ status }) => status.phase },
    { title: 'VERSION', align: 'right', text: ({ metadata }) => String(metadata.generation) },
    {
      title: 'STEPS',
      align: 'right',
      text: ({ spec }) => String(Array.isArray(spec['steps']) ? spec['steps'].length : 0),
    },
    { title: 'MODULES', wide: true, text: ({ spec }) => Object.keys(spec['modules'] ?? {}).join(',') },
  ],
  check(value) {
    const { result, problems } = compileValue(value)
    return { problems, definition: result?.definition ?? null }
  },
  statusOf(spec) {
    const lifecycle = lifecycleOf(spec)
    return { phase: lifecycle, conditions: [CONDITIONS[lifecycle]] }
  },
})

/** The lifecycle of a workflow's spec that was checked. */
export const lifecycleOf = (spec: { lifecycle?: unknown }): Lifecycle =>
  (spec.lifecycle as Lifecycle | undefined) ?? 'active' // the schema takes nothing else

const CONDITIONS: Record<Lifecycle, Condition> = {
  active: READY,
  draft: { ...READY, status: 'false', reason: 'draft', message: 'no run starts from this version' },
  deprecated: { ...READY, reason: 'deprecated', message: 'runs start, with a warning' },
  archived: { ...READY, status: 'false', reason: 'archived', message: 'no run starts from this workflow' },
}
