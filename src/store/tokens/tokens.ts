import { createHash } from 'node:crypto'
import type { Role } from '../../domain/roles.ts'
import { DEFAULT_ORGANISATION, EVERY_ORGANISATION, type Reach, reachOf } from '../../domain/tenancy.ts'
import type { Queryable } from '../db.ts'

export interface TokenRow {
  id: string
  role: Role
  /** `*` is every organisation. */
  organisation: string
  /** What the token may see, in stored names. */
  reach: string[] | null
}

export interface NewToken {
  id: string
  name: string
  secret: string
  role: Role
  /** Every organisation when absent, or the default one when namespaces are named. */
  organisation?: string
  /** Plain names within the organisation; null is all of them. */
  namespaces: string[] | null
  /** Token that makes this one. */
  createdBy?: string
  /** From now; absent: until it is revoked. */
  expiresInMs?: number
}

/** What is stored of a token. Tokens are 256 random bits, so one round of SHA-256 is enough: there is nothing to guess. */
export const tokenHash = (token: string): string => createHash('sha256').update(token).digest('hex')

/** Keeps a token's hash. Twice is safe: the same token is kept once. */
export async function putToken(db: Queryable, token: NewToken): Promise<void> {
  const organisation = token.organisation ?? (token.namespaces === null ? EVERY_ORGANISATION : DEFAULT_ORGANISATION)
  await db.query(
    `insert into token (id, name, hash, role, organisation, namespaces, created_by, expires_at, created_at)
     values ($1, $2, $3, $4, $5, $6::text[], $7, clock_now() + $8::float8 * interval '1 ms', clock_now()) on conflict (hash) do nothing`,
    [
      token.id,
      token.name,
      tokenHash(token.secret),
      token.role,
      organisation,
      token.namespaces,
      token.createdBy ?? null,
      token.expiresInMs ?? null,
    ],
  )
}

/**
 * Whether nobody administers this installation yet: no token that was not ended may do everything. Until the transaction is over
 * nobody else is told so.
 */
export async function lockFirstAdmin(tx: Queryable): Promise<boolean> {
  // The number means the first administrator, and nothing else takes a lock of this kind.
  await tx.query(`select pg_advisory_xact_lock(7780001)`)
  const rows = await tx.query(
    `select 1 from token where role = 'admin' and organisation = '*' and revoked_at is null
        and (expires_at is null or expires_at > clock_now()) limit 1`,
  )
  return rows.length === 0
}

/** Whose token this is; null when it is unknown, expired or revoked. */
export async function findToken(db: Queryable, secret: string): Promise<TokenRow | null> {
  const [row] = await db.query<{ id: string; role: Role; organisation: string; namespaces: string[] | null }>(
    `select id, role, organisation, namespaces from token
      where hash = $1 and revoked_at is null and (expires_at is null or expires_at > clock_now())`,
    [tokenHash(secret)],
    { name: 'find_token' },
  )
  if (!row) return null
  const { id, role, organisation, namespaces } = row
  return { id, role, organisation, reach: reachOf(organisation, namespaces) }
}

/** Of these hashes, those whose token was good once and is not any more. */
export async function findEnded(
  db: Queryable,
  hashes: readonly string[],
): Promise<{ hash: string; id: string; role: Role; organisation: string; state: 'revoked' | 'expired' }[]> {
  return db.query(
    `select hash, id, role, organisation, case when revoked_at is not null then 'revoked' else 'expired' end as state from token
      where hash = any($1::text[]) and (revoked_at is not null or expires_at <= clock_now())`,
    [hashes],
    { name: 'find_ended_tokens' },
  )
}

/** Ends a token at once; false when there is no such token or it has ended already. */
export async function revokeToken(db: Queryable, id: string): Promise<boolean> {
  const rows = await db.query(
    `update token set revoked_at = clock_now() where id = $1 and revoked_at is null returning id`,
    [id],
  )
  return rows.length > 0
}

export interface TokenReadRow {
  id: string
  name: string
  role: Role
  organisation: string
  namespaces: string[] | null
  created_at: Date
  created_by: string | null
  expires_at: Date | null
  revoked_at: Date | null
  last_used_at: Date | null
  /** The database's clock says so. */
  expired: boolean
}

const READ_COLUMNS = `id, name, role, organisation, namespaces, created_at, created_by, expires_at, revoked_at, last_used_at,
  coalesce(expires_at <= clock_now(), false) as expired`

// A token lies within a reach when all that it may see does.
const VISIBLE = (param: string) => `(${param}::text[] is null or (organisation <> '*' and (
  organisation || '/*' = any(${param}::text[])
  or namespaces is not null and (select bool_and(in_reach(case when organisation = 'default' then n else organisation || '/' || n end, ${param}::text[]))
                                   from unnest(namespaces) n))))`

/** A token that lies within a reach, whatever its state; null when there is none. */
export async function findTokenById(db: Queryable, id: string, reach: Reach): Promise<TokenReadRow | null> {
  const rows = await db.query<TokenReadRow>(
    `select ${READ_COLUMNS} from token where id = $1 and ${VISIBLE('$2')}`,
    [id, reach],
    { name: 'find_token_by_id' },
  )
  return rows[0] ?? null
}

/** Tokens within a reach, the newest first. `all`: those that have ended as well. */
export async function listTokens(
  db: Queryable,
  f: { reach: Reach; all: boolean; before: string | null; limit: number },
): Promise<TokenReadRow[]> {
  return db.query(
    `select ${READ_COLUMNS} from token
      where ${VISIBLE('$1')} and ($2::boolean or (revoked_at is null and (expires_at is null or expires_at > clock_now())))
        and ($3::text is null or id < $3)
      order by id desc limit $4`,
    [f.reach, f.all, f.before, f.limit],
    { name: 'list_tokens' },
  )
}

/** Notes that tokens were used so many ms ago. A later use that is noted already stays. */
export async function markUsed(db: Queryable, used: readonly { hash: string; agoMs: number }[]): Promise<void> {
  if (used.length === 0) return
  await db.query(
    `update token t set last_used_at = greatest(t.last_used_at, clock_now() - u.ago_ms * interval '1 ms')
       from unnest($1::text[], $2::float8[]) as u(hash, ago_ms) where t.hash = u.hash`,
    [used.map((u) => u.hash), used.map((u) => u.agoMs)],
    { name: 'mark_used' },
  )
}
