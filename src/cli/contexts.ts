import { Failure } from '../domain/failure.ts'
import { nearest } from '../base/nearest.ts'

/** A server that was given a name, with what is shown to it. */
export interface ServerContext {
  server: string
  token?: string
  /** File of the authority to trust beside the known ones. */
  ca?: string
}

/** What is kept of the servers that somebody uses. */
export interface Contexts {
  /** In use when nothing else names one; null: none. */
  current: string | null
  contexts: Record<string, ServerContext>
}

/** The file of contexts. Only this user may read it: tokens are in it. */
export interface ContextFile {
  readonly path: string
  read(): Promise<Contexts>
  write(contexts: Contexts): Promise<void>
}

export const NO_CONTEXTS: Contexts = { current: null, contexts: {} }

/** Names that need no quoting anywhere. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/
export const isContextName = (name: string): boolean => NAME.test(name)

/** The context of a name; `context.not_found` names those that there are. `from`: what gave the name. */
export function getContext(all: Contexts, name: string, from: string): ServerContext {
  const found = Object.hasOwn(all.contexts, name) ? all.contexts[name] : undefined
  if (found) return found
  const names = Object.keys(all.contexts).sort()
  const near = nearest(name, names)
  throw new Failure('context.not_found', `looking for context ${name} (${from})`, {
    evidence: { contexts: names, ...(near ? { nearest: near } : {}) },
    remediation: `${near ? `Did you mean ${near}? ` : ''}orrery context list shows the contexts; orrery context set ${name} --server URL makes this one.`,
  })
}

/** Reads what is in a file of contexts. Null: it is no such file. */
export function parseContexts(text: string): Contexts | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (!isObject(value) || !isObject(value['contexts'])) return null
  const contexts: Record<string, ServerContext> = {}
  for (const [name, entry] of Object.entries(value['contexts'])) {
    if (!isObject(entry) || typeof entry['server'] !== 'string') return null
    const { server, token, ca } = entry
    contexts[name] = {
      server,
      ...(typeof token === 'string' ? { token } : {}),
      ...(typeof ca === 'string' ? { ca } : {}),
    }
  }
  const { current } = value
  return { current: typeof current === 'string' && Object.hasOwn(contexts, current) ? current : null, contexts }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
