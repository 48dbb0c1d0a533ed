import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type ContextFile, NO_CONTEXTS, parseContexts } from '../cli/contexts.ts'
import { Failure } from '../domain/index.ts'
import { contextPath, type Env } from './places.ts'

/** The contexts of this user, in a file that only he may read. */
export function contextFile(env: Env): ContextFile {
  const path = contextPath(env)
  return {
    path,
    async read() {
      let text: string
      try {
        text = await readFile(path, 'utf8')
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NO_CONTEXTS // readFile rejects with nothing else
        throw new Failure('file.unreadable', 'reading the contexts', { cause: error, evidence: { path } })
      }
      const contexts = parseContexts(text)
      if (contexts) return contexts
      throw new Failure('config.invalid', `reading the contexts in ${path}`, {
        evidence: { path },
        remediation: 'The file is no file of contexts any more: mend it, or remove it and name your servers again.',
      })
    },
    async write(contexts) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      // Beside it first: whoever is interrupted here keeps the contexts that there were.
      const fresh = `${path}.${process.pid}`
      await writeFile(fresh, `${JSON.stringify(contexts, null, 2)}\n`, { mode: 0o600 })
      await chmod(fresh, 0o600)
      await rename(fresh, path)
    },
  }
}
