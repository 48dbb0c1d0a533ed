/** How a step names the workflow that it runs below its run. */
export interface WorkflowRef {
  name: string
  /** A plain name within the run's organisation; absent: the run's own namespace. */
  namespace?: string
  /** Absent: the latest active one. */
  version?: number
}

const DNS = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'

/** `NAME`, `NAME@VERSION`, `NAMESPACE/NAME` or `NAMESPACE/NAME@VERSION`. */
export const WORKFLOW_REF = new RegExp(`^(?:(?<namespace>${DNS})/)?(?<name>${DNS})(?:@(?<version>[1-9]\\d{0,8}))?$`)

/** Of a text that fits WORKFLOW_REF. */
export function parseWorkflowRef(text: string): WorkflowRef {
  const { namespace, name = text, version } = WORKFLOW_REF.exec(text)?.groups ?? {}
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(version === undefined ? {} : { version: Number(version) }),
  }
}
