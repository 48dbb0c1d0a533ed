import { pathToFileURL } from 'node:url'
import { Failure } from '../domain/index.ts'

/** Imports modules of functions. One that cannot be loaded is `module.load_failed` with the error of the runtime as its cause. */
export async function loadModules(paths: Record<string, string>): Promise<Record<string, unknown>> {
  const modules: Record<string, unknown> = {}
  for (const [name, path] of Object.entries(paths)) {
    try {
      modules[name] = await import(pathToFileURL(path).href)
    } catch (error) {
      throw new Failure('module.load_failed', `loading module ${name} from ${path}`, {
        cause: error,
        evidence: { module: name, path },
      })
    }
  }
  return modules
}

/** Variables that commands get from the worker's own environment; nothing else leaks into them. */
export const COMMAND_ENV = ['PATH', 'HOME', 'USER', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'SHELL'] as const
export function commandEnv(env: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(COMMAND_ENV.flatMap((key) => (env[key] === undefined ? [] : [[key, env[key]]])))
}
