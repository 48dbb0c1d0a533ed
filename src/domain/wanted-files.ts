import { matchesGlob } from 'node:path'
import { LIMITS } from './limits.ts'

/** Which files of an earlier step a step is given. */
export interface FileWant {
  /** Node number of the step that left them. */
  from: number
  /** Pattern over their names, with forward slashes. */
  path: string
  /** Folder below the workspace that their names begin in; empty for the workspace itself. */
  to: string
  /** No failure when nothing fits. */
  optional: boolean
}

/** A file that a step left. `index` is that of the activation which left it, null where the step is one. */
export interface LeftFile {
  node: number
  index: number | null
  name: string
  bytes: number
  sha256: string
}

export interface WantedFile {
  /** Number of the want that it fits, from 0. */
  want: number
  /** Where it goes, below the workspace. */
  at: string
  bytes: number
  sha256: string
}

/**
 * The files that fit the wants, by where they go; of two that go to one place that of the later want counts. Files of a step that spread lie in a folder
 * for each activation. At most one more than a step may be given. Pure.
 */
export function filesWanted(wants: readonly FileWant[], left: readonly LeftFile[]): WantedFile[] {
  const found = new Map<string, WantedFile>()
  for (const [want, { from, path, to }] of wants.entries())
    for (const { node, index, name, bytes, sha256 } of left) {
      if (node !== from || !fits(name, path)) continue
      const at = [...(to === '' ? [] : [to]), ...(index === null ? [] : [String(index)]), name].join('/')
      found.set(at, { want, at, bytes, sha256 })
      if (found.size > LIMITS.artifactsPerStepMax) return [...found.values()]
    }
  return [...found.values()]
}

/** The name itself is a pattern too: it may hold what patterns are made of. */
const fits = (name: string, pattern: string): boolean => name === pattern || matchesGlob(name, pattern)

/** A path as it may be below a workspace: relative, with forward slashes, without steps upwards. */
export const isPathBelow = (path: string): boolean =>
  !/[\\\0]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
