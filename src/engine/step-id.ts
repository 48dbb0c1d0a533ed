import { isRunId } from '../base/ids.ts'
import type { StepKey } from '../domain/step.ts'

export interface StepAddress extends StepKey {
  runId: string
}

/** `<run>.<node>` or `<run>.<node>.<path>`: the name of an activation on the wire. */
export const stepIdOf = (a: StepAddress): string =>
  a.path === '' ? `${a.runId}.${a.node}` : `${a.runId}.${a.node}.${a.path}`

/** The parts of a step id; null when the text is none. */
export function parseStepId(text: string): StepAddress | null {
  const [runId = '', node = '', path = '', ...rest] = text.split('.')
  if (!isRunId(runId) || !/^\d{1,6}$/.test(node) || !(path === '' || /^\d{5}$/.test(path)) || rest.length > 0)
    return null
  return { runId, node: Number(node), path }
}

/** Names an attempt: a step under one fence. */
export const attemptKey = (a: StepAddress & { fence: number }): string => `${a.runId}.${a.node}.${a.path}@${a.fence}`
