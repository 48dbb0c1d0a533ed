import { filePattern } from './file-pattern.ts'
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
 * Chooses the files that fit the wants; of two that go to one place that of the later want counts. Files of a step that spread lie in a folder for each
 * activation. Keeps what fits and nothing else, and at most one more than a step may be given.
 */
export class WantedFiles {
  readonly #wants: readonly (FileWant & { fits: (name: string) => boolean })[]
  readonly #found = new Map<string, WantedFile>()

  constructor(wants: readonly FileWant[]) {
    this.#wants = wants.map((want) => ({ ...want, fits: filePattern(want.path) }))
  }

  /** More than a step may be given: what else was left changes nothing. */
  get areTooMany(): boolean {
    return this.#found.size > LIMITS.artifactsPerStepMax
  }

  /** In the order of the wants. */
  get files(): WantedFile[] {
    return [...this.#found.values()].toSorted((a, b) => a.want - b.want)
  }

  add({ node, index, name, bytes, sha256 }: LeftFile): void {
    for (const [want, { from, to, fits }] of this.#wants.entries()) {
      if (this.areTooMany) return
      if (node !== from || !fits(name)) continue
      const at = [...(to === '' ? [] : [to]), ...(index === null ? [] : [String(index)]), name].join('/')
      if ((this.#found.get(at)?.want ?? -1) <= want) this.#found.set(at, { want, at, bytes, sha256 })
    }
  }
}

/** A path as it may be below a workspace: relative, with forward slashes, without steps upwards. */
export const isPathBelow = (path: string): boolean =>
  !/[\\\0]/.test(path) && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
