/** What lies outside of the store: variables and files. */
export interface SecretSources {
  /** Only variables that begin with it are ever read. */
  readonly envPrefix: string
  readVariable(name: string): string | undefined
  /** Directory of files of secrets; null when there is none. */
  readonly dir: string | null
  /** `path` is relative to the directory and never leads out of it. */
  readFile(path: readonly string[]): Promise<FoundFile>
  /** Names of the files below a directory of it; none when there is no such directory. */
  listFiles(path: readonly string[]): Promise<string[]>
}

export type FoundFile = { kind: 'found'; value: string } | { kind: 'absent' } | { kind: 'refused'; why: string }

/** No variables and no files. */
export const NO_SOURCES: SecretSources = {
  envPrefix: 'ORRERY_SECRET_',
  readVariable: () => undefined,
  dir: null,
  readFile: () => Promise.resolve({ kind: 'absent' }),
  listFiles: () => Promise.resolve([]),
}
