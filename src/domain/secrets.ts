import type { JsonObject } from '../base/json.ts'
import { nearest } from '../base/nearest.ts'
import { Failure } from './failure.ts'
import { FAILURES } from './failures.ts'
import { DEFAULT_ORGANISATION, organisationOf } from './tenancy.ts'

/** A value that a step asks for: one key of one secret of the run's namespace. */
export interface SecretRef {
  secret: string
  key: string
}

/** As other names of the house: lower case, digits and hyphens. */
export const SECRET_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
/** Never begins with a dot: it is a file's name as well. */
export const SECRET_KEY = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$/

/** Where a value may be, in the order in which it is looked for. */
export type SecretSpot =
  | { from: 'store'; name: string }
  | { from: 'environment'; name: string }
  /** `path` is relative to the directory of secrets. */
  | { from: 'file'; name: string; path: string[] }

/** What was found at a spot that did not give the value. */
export interface TriedSpot {
  from: SecretSpot['from']
  /** The variable, the path or the place in the store. */
  name: string
  why: string
}

/** Upper case, with `_` for everything that is no letter and no digit. */
export const foldName = (text: string): string => text.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')

/**
 * Pure: the store, then variables, then files. The short spellings, without the namespace, are for the namespace `default` alone:
 * else whoever writes workflows in one namespace could read what was meant for another. Variables are for the default organisation:
 * folded names of two organisations could be one.
 */
export function spotsOf(
  { secret, key }: SecretRef,
  where: { namespace: string; envPrefix: string; dir: string | null },
): SecretSpot[] {
  const { namespace, envPrefix, dir } = where
  const spellings = [[namespace, secret, key], ...(namespace === 'default' ? [[secret, key]] : [])]
  return [
    { from: 'store', name: `${namespace}/${secret}/${key}` },
    ...(organisationOf(namespace) === DEFAULT_ORGANISATION ? spellings : []).map((parts) => ({
      from: 'environment' as const,
      name: envPrefix + parts.map(foldName).join('_'),
    })),
    ...spellings.flatMap((parts) => {
      const path = parts.flatMap((part) => part.split('/'))
      return dir === null ? [] : [{ from: 'file' as const, name: [dir, ...path].join('/'), path }]
    }),
  ]
}

/** Nobody had the value. `keys` are those that the secret does have; `secrets` the names there are in the namespace. */
export function unresolvedSecret(
  ref: SecretRef,
  what: {
    attempted: string
    namespace: string
    tried: readonly TriedSpot[]
    hasDir: boolean
    keys: readonly string[]
    secrets: readonly string[]
    evidence?: JsonObject
  },
): Failure {
  const code = what.keys.length > 0 ? 'secret.key_not_found' : 'secret.not_found'
  const near = what.keys.length > 0 ? nearest(ref.key, what.keys) : nearest(ref.secret, what.secrets)
  const meant = near === null ? '' : `Did you mean ${what.keys.length > 0 ? 'the key' : 'the secret'} ${near}? `
  return new Failure(code, what.attempted, {
    evidence: {
      ...what.evidence,
      namespace: what.namespace,
      secret: ref.secret,
      key: ref.key,
      tried: what.tried.map(({ from, name, why }) => `${WORDS[from]} ${name}: ${why}`),
      ...(what.hasDir ? {} : { files: 'none: the server was started without --secrets-dir' }),
      ...(what.keys.length > 0 ? { keys: what.keys.slice(0, 50) } : {}),
      ...(near === null ? {} : { nearest: near }),
    },
    remediation: `${meant}${FAILURES[code].advice.replace('NAME KEY=VALUE', `${ref.secret} ${ref.key}=VALUE${what.namespace === 'default' ? '' : ` --namespace ${what.namespace}`}`)}`,
  })
}

const WORDS = { store: 'store', environment: 'variable', file: 'file' } as const
