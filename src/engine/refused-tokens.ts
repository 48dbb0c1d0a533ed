import type { Ids } from '../base/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { EVERY_ORGANISATION } from '../domain/tenancy.ts'
import { type AuditEntry, recordAudit } from '../store/audit/audit.ts'
import type { Queryable } from '../store/db.ts'
import { findEnded, tokenHash } from '../store/tokens/tokens.ts'

/** Different tokens of one address that are remembered at once: enough to tell a wrong setting from guessing. */
const TOKENS_OF_ADDRESS = 20

interface Shown {
  count: number
  /** What was asked for first. */
  path: string
  requestId: string
}

interface Refused extends Shown {
  /** By the hashes of the tokens that were shown: an organisation is told of its own, and of nothing that was asked for with others. */
  tokens: Map<string, Shown>
}

export interface RefusedToken {
  token: string
  /** Null when the request came from the same process. */
  address: string | null
  path: string
  requestId: string
}

/**
 * Tokens that were not taken, gathered for the audit log: an entry for each address, and for each token that was good once, however
 * often they are tried. Nothing is written at once, so that whoever guesses writes nothing either.
 */
export class RefusedTokens {
  readonly #ids: Ids
  readonly #byAddress = new Map<string, Refused>()
  #elsewhere = 0

  constructor(ids: Ids) {
    this.#ids = ids
  }

  note({ token, address, path, requestId }: RefusedToken): void {
    const key = address ?? ''
    let refused = this.#byAddress.get(key)
    if (!refused && this.#byAddress.size >= LIMITS.refusedAddressesPerMinute) return void this.#elsewhere++
    refused ??= { count: 0, path, requestId, tokens: new Map() }
    this.#byAddress.set(key, refused)
    refused.count += 1
    const hash = tokenHash(token)
    const known = refused.tokens.get(hash)
    if (known) known.count += 1
    else if (refused.tokens.size < TOKENS_OF_ADDRESS) refused.tokens.set(hash, { count: 1, path, requestId })
  }

  /** Writes down what gathered. Should that fail, it is left out: the log of the server tells of it. */
  async flush(db: Queryable): Promise<void> {
    if (this.#byAddress.size === 0) return
    const gathered = [...this.#byAddress]
    const elsewhere = this.#elsewhere
    this.#byAddress.clear()
    this.#elsewhere = 0
    const ended = new Map(
      (await findEnded(db, [...new Set(gathered.flatMap(([, { tokens }]) => [...tokens.keys()]))])).map((t) => [
        t.hash,
        t,
      ]),
    )
    const entries = gathered.flatMap(([address, refused]): AuditEntry[] => {
      const own: AuditEntry[] = []
      let left = refused.count
      for (const [hash, shown] of refused.tokens) {
        const token = ended.get(hash)
        if (!token) continue
        left -= shown.count
        const { id, role, organisation, state } = token
        own.push({
          ...this.#entry(address, shown),
          actor: id,
          role,
          about: { organisation },
          details: { state, count: shown.count },
        })
      }
      const unknown = [...refused.tokens.keys()].filter((hash) => !ended.has(hash)).length
      const details = { state: 'unknown', count: left, tokens: unknown }
      return left > 0 ? [...own, { ...this.#entry(address, refused), details }] : own
    })
    const first = gathered[0]?.[1]
    if (elsewhere > 0 && first)
      entries.push({
        ...this.#entry('', first),
        object: null,
        details: { state: 'unknown', count: elsewhere, elsewhere: true },
      })
    await recordAudit(db, entries)
  }

  /** Of a token that nobody knows: of no organisation, so that those alone see it who see all. */
  #entry(address: string, { path, requestId }: Shown): AuditEntry {
    return {
      id: this.#ids.make('audit'),
      actor: 'unknown',
      role: 'none',
      about: { organisation: EVERY_ORGANISATION },
      action: 'tokens.refused',
      object: path,
      outcome: 'denied',
      address: address === '' ? null : address,
      requestId,
    }
  }
}
