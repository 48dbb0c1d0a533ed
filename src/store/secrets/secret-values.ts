import type { Queryable } from '../db.ts'
import type { Sealed, SecretPlace } from './seal.ts'

export type SecretValueRow = SecretPlace & Sealed & { updatedAt: Date }

const COLUMNS = `namespace, secret, key, key_id as "keyId", nonce, ciphertext, tag, updated_at as "updatedAt"`

/** Keeps sealed values, each in the place of what was there before. */
export async function putSecretValues(db: Queryable, values: readonly (SecretPlace & Sealed)[]): Promise<void> {
  await db.query(
    `insert into secret_value (namespace, secret, key, key_id, nonce, ciphertext, tag, updated_at)
     select v.*, (select clock_now())
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) as v
     on conflict (namespace, secret, key) do update
       set key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext, tag = excluded.tag,
           updated_at = excluded.updated_at`,
    columnsOf(values),
  )
}

/** Removes keys of a secret; null removes all. Gives those that were there. */
export async function deleteSecretKeys(
  db: Queryable,
  { namespace, secret, keys }: { namespace: string; secret: string; keys: string[] | null },
): Promise<string[]> {
  const rows = await db.query<{ key: string }>(
    `delete from secret_value where namespace = $1 and secret = $2 and ($3::text[] is null or key = any($3)) returning key`,
    [namespace, secret, keys],
  )
  return rows.map((row) => row.key).sort()
}

/** All values of these secrets, sealed. */
export function findSecretValues(
  db: Queryable,
  secrets: readonly { namespace: string; secret: string }[],
): Promise<SecretValueRow[]> {
  return db.query<SecretValueRow>(
    `select ${COLUMNS} from secret_value
      where (namespace, secret) in (select * from unnest($1::text[], $2::text[]))
      order by namespace, secret, key`,
    [secrets.map((s) => s.namespace), secrets.map((s) => s.secret)],
    { name: 'find_secret_values' },
  )
}

export interface SecretNameRow {
  secret: string
  keys: string[]
  keyIds: string[]
  updatedAt: Date
}

/** Names of the secrets of a namespace after one, in order. */
export function listSecretNames(
  db: Queryable,
  { namespace, after, limit }: { namespace: string; after: string; limit: number },
): Promise<SecretNameRow[]> {
  return db.query<SecretNameRow>(
    `select secret, array_agg(key order by key) as keys, array_agg(distinct key_id) as "keyIds", max(updated_at) as "updatedAt"
       from secret_value where namespace = $1 and secret > $2 group by secret order by secret limit $3`,
    [namespace, after, limit],
  )
}

/** Counts the keys of one secret, besides these. */
export async function countOtherKeys(
  db: Queryable,
  { namespace, secret, keys }: { namespace: string; secret: string; keys: string[] },
): Promise<number> {
  const rows = await db.query<{ n: number }>(
    `select count(*)::int as n from secret_value where namespace = $1 and secret = $2 and key <> all($3::text[])`,
    [namespace, secret, keys],
  )
  return rows[0]?.n ?? 0
}

/** Other namespaces, of those given (null: all), that hold a secret of this name. */
export async function findNamespacesOfSecret(
  db: Queryable,
  { secret, besides, namespaces }: { secret: string; besides: string; namespaces: readonly string[] | null },
): Promise<string[]> {
  const rows = await db.query<{ namespace: string }>(
    `select distinct namespace from secret_value
      where secret = $1 and namespace <> $2 and in_reach(namespace, $3::text[]) order by namespace limit 20`,
    [secret, besides, namespaces],
  )
  return rows.map((row) => row.namespace)
}

/** Values that are not sealed by the active key but by one of these; locked, and passed over where another server has them. */
export function claimStaleValues(
  tx: Queryable,
  { active, known, limit }: { active: string; known: string[]; limit: number },
): Promise<SecretValueRow[]> {
  return tx.query<SecretValueRow>(
    `select ${COLUMNS} from secret_value where key_id <> $1 and key_id = any($2::text[])
      order by namespace, secret, key limit $3 for update skip locked`,
    [active, known, limit],
  )
}

/** Keeps values that were sealed anew; when they were last set stays. One that was set meanwhile is left alone. */
export async function resealValues(
  tx: Queryable,
  values: readonly (SecretPlace & Sealed & { former: string })[],
): Promise<number> {
  const rows = await tx.query(
    `update secret_value s set key_id = v.key_id, nonce = v.nonce, ciphertext = v.ciphertext, tag = v.tag
       from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
            as v(namespace, secret, key, key_id, nonce, ciphertext, tag, former)
      where s.namespace = v.namespace and s.secret = v.secret and s.key = v.key and s.key_id = v.former
      returning 1 as one`,
    [...columnsOf(values), values.map((v) => v.former)],
  )
  return rows.length
}

/** How many values each key seals. */
export function countByKey(db: Queryable): Promise<{ keyId: string; values: number }[]> {
  return db.query(`select key_id as "keyId", count(*)::int as values from secret_value group by key_id order by key_id`)
}

const columnsOf = (values: readonly (SecretPlace & Sealed)[]): string[][] => [
  values.map((v) => v.namespace),
  values.map((v) => v.secret),
  values.map((v) => v.key),
  values.map((v) => v.keyId),
  values.map((v) => v.nonce),
  values.map((v) => v.ciphertext),
  values.map((v) => v.tag),
]
