import type { Clock } from '../base/clock.ts'
import type { Queryable } from '../store/db.ts'
import { findToken, tokenHash, type TokenRow } from '../store/tokens/tokens.ts'

/** How long an answer about a token holds that no tick has confirmed: without a database, or for a token that is unknown. */
const HOLDS_MS = 5_000
/** A token that nobody used for this long is forgotten. */
const UNUSED_MS = 60_000
const TOKENS_MAX = 1_000

interface Known {
  row: TokenRow | null
  until: number
  usedAt: number
  /** Used since the last time that its use was written down. */
  isUsed: boolean
}

/**
 * Whose tokens are good. Asked once, then confirmed by every tick together with all else, so that a token that was revoked works a
 * second more and a server at rest asks nothing extra.
 */
export class TokenCache {
  readonly #db: Queryable
  readonly #clock: Clock
  readonly #known = new Map<string, Known>()
  /** Last uses, in monotonic ms, of tokens that are remembered no more. */
  readonly #unwritten = new Map<string, number>()

  constructor(db: Queryable, clock: Clock) {
    this.#db = db
    this.#clock = clock
  }

  /** Whose token this is; null when it is unknown, expired or revoked. */
  async find(token: string): Promise<TokenRow | null> {
    const hash = tokenHash(token)
    const now = this.#clock.monotonic()
    const known = this.#known.get(hash)
    if (known && known.until > now) {
      known.usedAt = now
      known.isUsed = true
      return known.row
    }
    const row = await findToken(this.#db, token)
    if (this.#known.size >= TOKENS_MAX) this.#known.clear()
    this.#known.set(hash, { row, until: now + HOLDS_MS, usedAt: now, isUsed: row !== null })
    return row
  }

  /** Whether a token was found good a moment ago: told without asking the store. */
  knows(token: string): boolean {
    const known = this.#known.get(tokenHash(token))
    return known !== undefined && known.row !== null && known.until > this.#clock.monotonic()
  }

  /** Ends what is remembered of a token that was revoked here. */
  forget(id: string): void {
    for (const [hash, known] of this.#known) if (known.row?.id === id) this.#drop(hash, known)
  }

  #drop(hash: string, known: Known): void {
    this.#known.delete(hash)
    if (known.isUsed) this.#unwritten.set(hash, known.usedAt)
  }

  /** The tokens that were used since this was asked last, each with how long ago. */
  takeUsed(): { hash: string; agoMs: number }[] {
    const now = this.#clock.monotonic()
    const used = [...this.#unwritten].map(([hash, usedAt]) => ({ hash, agoMs: now - usedAt }))
    this.#unwritten.clear()
    for (const [hash, known] of this.#known) {
      if (!known.isUsed) continue
      known.isUsed = false
      used.push({ hash, agoMs: now - known.usedAt })
    }
    return used
  }

  /** What the next tick is to ask about. */
  hashes(): string[] {
    const now = this.#clock.monotonic()
    for (const [hash, known] of this.#known) if (now - known.usedAt > UNUSED_MS) this.#drop(hash, known)
    return [...this.#known].filter(([, known]) => known.row !== null).map(([hash]) => hash)
  }

  /** The tick's answer about the hashes that it was given. */
  confirm(asked: readonly string[], bad: readonly string[]): void {
    const until = this.#clock.monotonic() + HOLDS_MS
    for (const hash of asked) {
      const known = this.#known.get(hash)
      if (known?.row) known.until = until
    }
    for (const hash of bad) this.#known.delete(hash)
  }
}
