import type { Problem } from './failure.ts'

/** Keys that say how much may run at once. */
const LIMIT_KEYS = new Set(['maxParallel'])

/** A limit that lets nothing run has a code of its own: it says what such a limit would do, and what leaving it out does. */
export function nameConcurrency<P extends Problem & { parts: readonly (string | number)[] }>(problem: P): P {
  const key = problem.parts.at(-1)
  if (problem.code !== 'manifest.invalid' || typeof key !== 'string' || !LIMIT_KEYS.has(key)) return problem
  return {
    ...problem,
    code: 'workflow.concurrency_invalid',
    message: `${problem.message}; ${key} limits how many activations run at once, and left out it limits nothing`,
  }
}
