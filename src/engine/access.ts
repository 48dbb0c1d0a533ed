import type { JsonObject } from '../base/json.ts'
import type { AuditView, CreateTokenRequest, Page, TokenCreated, TokenView, WhoamiView } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import {
  covers,
  DEFAULT_ORGANISATION,
  EVERY_ORGANISATION,
  plainNamespace,
  type Reach,
  reachOf,
} from '../domain/tenancy.ts'
import { type AuditEntry, type AuditRow, listAudit, listRunStarts, recordAudit } from '../store/audit/audit.ts'
import { findTokenById, listTokens, putToken, revokeToken, type TokenReadRow } from '../store/tokens/tokens.ts'
import type { EngineContext } from './context.ts'
import { Denials } from './denials.ts'
import type { Caller } from './engine.ts'
import { makeToken } from './make-token.ts'
import type { RefusedToken, RefusedTokens } from './refused-tokens.ts'
import type { TokenCache } from './token-cache.ts'
import { reach, reachWithin, shownReach } from './visible.ts'

export interface AuditQuery {
  actor: string | null
  action: string | null
  object: string | null
  outcome: 'done' | 'denied' | null
  /** Plain name. */
  namespace: string | null
  since: string | null
  cursor: string | null
  limit: number
}

/** Tokens and the audit log, as the api asks for them. Throws Failure. */
export interface Access {
  whoami(caller: Caller): Promise<WhoamiView>
  /** `client.forbidden` when the token would reach further than the one that asks. */
  createToken(caller: Caller, request: CreateTokenRequest): Promise<TokenCreated>
  listTokens(caller: Caller, f: { all: boolean; cursor: string | null; limit: number }): Promise<Page<TokenView>>
  /** Works at once on this server and within a second on the others. Twice is safe. `token.not_found`. */
  revokeToken(caller: Caller, id: string): Promise<TokenView>
  listAudit(caller: Caller, query: AuditQuery): Promise<Page<AuditView>>
  /** Writes down that a role was not enough; not more often than the limits say, and never in the way of the answer. */
  noteDenied(caller: Caller, denied: { action: string; path: string }): void
  /** A token was shown that is not good. Gathered, and written down within a minute. */
  noteRefused(refused: RefusedToken): void
  /** Whether a token was found good a moment ago. */
  knows(token: string): boolean
}

/** The part of an entry that says who asked. */
export const askedBy = (
  ctx: Pick<EngineContext, 'ids'>,
  caller: Caller,
): Pick<AuditEntry, 'id' | 'actor' | 'role' | 'address' | 'requestId'> => ({
  id: ctx.ids.make('audit'),
  actor: caller.actor,
  role: caller.role,
  address: caller.address ?? null,
  requestId: caller.requestId,
})

/** An entry about something in a namespace, given as it is stored. */
export const entryIn = (
  ctx: Pick<EngineContext, 'ids'>,
  caller: Caller,
  namespace: string,
  what: { action: string; object: string; details?: JsonObject },
): AuditEntry => ({ ...askedBy(ctx, caller), about: { namespace }, outcome: 'done', ...what })

const iso = (date: Date | null): string | null => date?.toISOString() ?? null

const viewToken = (row: TokenReadRow): TokenView => ({
  id: row.id,
  name: row.name,
  role: row.role,
  organisation: row.organisation,
  namespaces: row.namespaces,
  state: row.revoked_at !== null ? 'revoked' : row.expired ? 'expired' : 'good',
  createdAt: row.created_at.toISOString(),
  createdBy: row.created_by,
  expiresAt: iso(row.expires_at),
  revokedAt: iso(row.revoked_at),
  lastUsedAt: iso(row.last_used_at),
})

const viewEntry = (row: AuditRow): AuditView => ({
  id: row.id,
  at: row.at.toISOString(),
  actor: { id: row.actor, name: row.actor_name, role: row.role },
  organisation: row.organisation,
  namespace: row.namespace === null ? null : plainNamespace(row.namespace),
  action: row.action,
  object: row.object,
  outcome: row.outcome,
  address: row.address,
  requestId: row.request_id,
  details: row.details,
})

/** The part of an id that sorts by time, whatever the id is of. */
const timeOf = (id: string): string => id.slice(id.indexOf('_') + 1)

export function createAccess(ctx: EngineContext, tokens: TokenCache, refused: RefusedTokens): Access {
  const denials = new Denials(ctx.clock)
  const { db } = ctx

  const mustFindToken = async (id: string, within: Reach): Promise<TokenReadRow> => {
    const row = await findTokenById(db, id, within)
    if (!row) throw new Failure('token.not_found', `looking for token ${id}`)
    return row
  }

  return {
    async whoami(caller) {
      const { id, name, role, organisation, namespaces, expiresAt } = viewToken(
        await mustFindToken(caller.actor, reach(caller)),
      )
      return { id, name, role, organisation, namespaces, expiresAt }
    },

    async createToken(caller, request) {
      const { name, role, expiresInSeconds } = request
      const { organisation, namespaces } = scopeOfNew(caller, request)
      const wanted = reachOf(organisation, namespaces)
      if (!covers(caller.namespaces, wanted)) {
        throw new Failure('client.forbidden', `making token ${name}`, {
          evidence: {
            organisation,
            namespaces,
            yours: { organisation: caller.organisation, namespaces: shownReach(caller) },
          },
          remediation:
            'A token reaches no further than the one that makes it: ask for less, or use a token that reaches further.',
        })
      }
      const id = ctx.ids.make('token')
      const token = makeToken(ctx.random)
      await db.transaction(async (tx) => {
        await putToken(tx, {
          id,
          name,
          secret: token,
          role,
          organisation,
          namespaces,
          createdBy: caller.actor,
          ...(expiresInSeconds === undefined ? {} : { expiresInMs: expiresInSeconds * 1000 }),
        })
        const details = { name, role, organisation, namespaces, expiresInSeconds: expiresInSeconds ?? null }
        await recordAudit(tx, [
          {
            ...askedBy(ctx, caller),
            about: { organisation },
            action: 'tokens.create',
            object: id,
            outcome: 'done',
            details,
          },
        ])
      })
      return { ...viewToken(await mustFindToken(id, reach(caller))), token }
    },

    async listTokens(caller, { all, cursor, limit }) {
      const rows = await listTokens(db, { reach: reach(caller), all, before: cursor, limit: limit + 1 })
      const items = rows.slice(0, limit)
      return { items: items.map(viewToken), next: rows.length > limit ? (items.at(-1)?.id ?? null) : null }
    },

    async revokeToken(caller, id) {
      const { organisation, name } = await mustFindToken(id, reach(caller))
      await db.transaction(async (tx) => {
        if (!(await revokeToken(tx, id))) return
        await recordAudit(tx, [
          {
            ...askedBy(ctx, caller),
            about: { organisation },
            action: 'tokens.revoke',
            object: id,
            outcome: 'done',
            details: { name },
          },
        ])
      })
      tokens.forget(id)
      return viewToken(await mustFindToken(id, reach(caller)))
    },

    async listAudit(caller, q) {
      const { actor, action, object, outcome, since, limit } = q
      const within = reachWithin(caller, q.namespace)
      const filter = { reach: within, actor, action, object, outcome, since, before: q.cursor, limit: limit + 1 }
      const noStarts = (action !== null && action !== 'runs.create') || outcome === 'denied'
      // What was started is told by the runs themselves; ids sort by time, so the two lists are one when they are merged.
      const [entries, starts] = await Promise.all([listAudit(db, filter), noStarts ? [] : listRunStarts(db, filter)])
      const rows = [...entries, ...starts].sort((a, b) => (timeOf(a.id) < timeOf(b.id) ? 1 : -1))
      const items = rows.slice(0, limit)
      const last = items.at(-1)
      return { items: items.map(viewEntry), next: rows.length > limit && last ? timeOf(last.id) : null }
    },

    noteDenied(caller, { action, path }) {
      if (!denials.isNews(caller.actor, action)) return
      const { organisation } = caller
      const entry: AuditEntry = {
        ...askedBy(ctx, caller),
        about: { organisation },
        action,
        object: path,
        outcome: 'denied',
      }
      recordAudit(db, [entry]).catch((error: unknown) =>
        ctx.log.warn('refusal not written to the audit log', { actor: caller.actor, action, error: String(error) }),
      )
    },

    noteRefused: (what) => refused.note(what),
    knows: (token) => tokens.knows(token),
  }
}

/** What is left out is as with the token that asks; namespaces alone are those of its organisation, or of the default one. */
function scopeOfNew(
  caller: Caller,
  request: CreateTokenRequest,
): { organisation: string; namespaces: string[] | null } {
  const own = caller.organisation
  const organisation =
    request.organisation ?? (own === EVERY_ORGANISATION && request.namespaces ? DEFAULT_ORGANISATION : own)
  if (request.namespaces) return { organisation, namespaces: request.namespaces }
  const inherited = organisation === own && !caller.namespaces?.includes(`${own}/*`) ? shownReach(caller) : null
  return { organisation, namespaces: inherited }
}
