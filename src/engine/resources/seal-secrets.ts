import type { JsonObject } from '../../base/json.ts'
import type { Queryable } from '../../store/db.ts'
import type { KeyRing } from '../../store/secrets/key-ring.ts'
import type { Sealed, SecretPlace } from '../../store/secrets/seal.ts'
import { deleteSecretKeys, findSecretValues, putSecretValues } from '../../store/secrets/secret-values.ts'
import type { Sealing } from './sealing.ts'

/**
 * Secrets that are applied as resources: the values go where `orrery secret set` puts them, and the resource keeps a mark of each, by which a change
 * is seen. A mark is the nonce of the sealed value: it tells nothing of it.
 */
export function sealSecrets({ ring, remember }: { ring: KeyRing; remember(value: string): void }): Sealing {
  return {
    async seal(tx, of, spec, { former, dryRun }) {
      const at = { namespace: of.namespace, secret: of.name }
      const data = spec['data'] as Record<string, string> // as the schema of the kind has checked
      const marks = (former?.['data'] ?? {}) as Record<string, string> // as it was stored below
      const stored = new Map((await findSecretValues(tx, [at])).map((row) => [row.key, row]))
      const active = await ring.active(`storing secret ${of.namespace}/${of.name}`)
      const fresh: (SecretPlace & Sealed)[] = []
      const next: Record<string, string> = {}
      for (const [key, value] of Object.entries(data)) {
        remember(value)
        const row = stored.get(key)
        const mark = marks[key]
        if (row && mark !== undefined && row.nonce === mark && (await ring.open(row, row)) === value) {
          next[key] = mark
          continue
        }
        const sealed = { ...at, key, ...active.seal(value, { ...at, key }) }
        fresh.push(sealed)
        next[key] = sealed.nonce
      }
      const gone = [...stored.keys()].filter((key) => !Object.hasOwn(data, key))
      if (!dryRun) await write(tx, at, fresh, gone)
      const isSame = fresh.length === 0 && Object.keys(marks).length === Object.keys(next).length
      return former && isSame ? former : ({ data: next } satisfies JsonObject)
    },
    async forget(tx, of) {
      await deleteSecretKeys(tx, { namespace: of.namespace, secret: of.name, keys: null })
    },
  }
}

async function write(
  tx: Queryable,
  at: { namespace: string; secret: string },
  fresh: readonly (SecretPlace & Sealed)[],
  gone: string[],
): Promise<void> {
  if (gone.length > 0) await deleteSecretKeys(tx, { ...at, keys: gone })
  if (fresh.length > 0) await putSecretValues(tx, fresh)
}
