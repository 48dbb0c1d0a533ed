import { createHash } from 'node:crypto'
import type { Queryable } from '../db.ts'

export interface TokenRow {
  id: string
  role: 'admin' | 'worker'
  namespaces: string[] | null
}

/** What is stored of a token. Tokens are 256 random bits, so one round of SHA-256 is enough: there is nothing to guess. */
export const tokenHash = (token: string): string => createHash('sha256').update(token).digest('hex')

/** Keeps a token's hash. Twice is safe: the same token is kept once. */
export async function putToken(
  db: Queryable,
  token: { id: string; name: string; secret: string; role: 'admin' | 'worker'; namespaces: string[] | null },
): Promise<void> {
  await db.query(
    `insert into token (id, name, hash, role, namespaces, created_at) values ($1, $2, $3, $4, $5::text[], clock_now()) on conflict (hash) do nothing`,
    [token.id, token.name, tokenHash(token.secret), token.role, token.namespaces],
  )
}

/** Whose token this is; null when it is unknown, expired or revoked. */
export async function findToken(db: Queryable, secret: string): Promise<TokenRow | null> {
  const rows = await db.query<TokenRow>(
    `select id, role, namespaces from token
      where hash = $1 and revoked_at is null and (expires_at is null or expires_at > clock_now())`,
    [tokenHash(secret)],
    { name: 'find_token' },
  )
  return rows[0] ?? null
}

/** Ends a token at once; false when there is no such token or it has ended already. */
export async function revokeToken(db: Queryable, id: string): Promise<boolean> {
  const rows = await db.query(
    `update token set revoked_at = clock_now() where id = $1 and revoked_at is null returning id`,
    [id],
  )
  return rows.length > 0
}
