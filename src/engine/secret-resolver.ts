import { Failure } from '../domain/failure.ts'
import { type SecretRef, type SecretSpot, spotsOf, type TriedSpot, unresolvedSecret } from '../domain/secrets.ts'
import type { Queryable } from '../store/db.ts'
import type { KeyRing } from '../store/secrets/key-ring.ts'
import { findSecretValues, listSecretNames, type SecretValueRow } from '../store/secrets/secret-values.ts'
import type { SecretSources } from './secret-sources.ts'

export interface WantedSecret extends SecretRef {
  namespace: string
  /** What it is for, as a message says it. */
  attempted: string
  evidence?: Record<string, string>
}

/** Names that are looked through for what was probably meant. */
const NAMES_MAX = 500

/** Finds values of secrets: in the store, in the environment, in files, in this order. */
export class SecretResolver {
  readonly #db: Queryable
  readonly #ring: KeyRing
  readonly #sources: SecretSources
  readonly #remember: (value: string) => void

  constructor(deps: { db: Queryable; ring: KeyRing; sources: SecretSources; remember: (value: string) => void }) {
    this.#db = deps.db
    this.#ring = deps.ring
    this.#sources = deps.sources
    this.#remember = deps.remember
  }

  /** In the order of what is wanted: the value, or why there is none. One query however many are wanted. */
  async resolve(wanted: readonly WantedSecret[]): Promise<(string | Failure)[]> {
    const rows = await findSecretValues(this.#db, wanted)
    return Promise.all(wanted.map((one) => this.#resolveOne(one, rows)))
  }

  /** Each spot in order with what is there; values are not shown. */
  async spots(
    ref: SecretRef,
    namespace: string,
    isStored: boolean,
  ): Promise<(SecretSpot & { found: string | null })[]> {
    const spots = spotsOf(ref, { namespace, ...this.#sources })
    return Promise.all(
      spots.map(async (spot) => {
        if (spot.from === 'store') return { ...spot, found: isStored ? null : 'not there' }
        const got = await this.#look(spot)
        return { ...spot, found: typeof got === 'string' ? null : got.why }
      }),
    )
  }

  async #resolveOne(wanted: WantedSecret, rows: readonly SecretValueRow[]): Promise<string | Failure> {
    const { namespace, secret, key } = wanted
    const own = rows.filter((row) => row.namespace === namespace && row.secret === secret)
    const tried: TriedSpot[] = []
    for (const spot of spotsOf(wanted, { namespace, ...this.#sources })) {
      const got = spot.from === 'store' ? await this.#open(own, wanted) : await this.#look(spot)
      if (typeof got === 'string') {
        this.#remember(got)
        return got
      }
      if (got instanceof Failure) return got
      tried.push({ from: spot.from, name: spot.name, why: got.why })
    }
    const keys = [...own.map((row) => row.key), ...(await this.filesOf(namespace, secret))]
    const names = await listSecretNames(this.#db, { namespace, after: '', limit: NAMES_MAX })
    return unresolvedSecret(wanted, {
      ...wanted,
      tried,
      hasDir: this.#sources.dir !== null,
      keys: [...new Set(keys)].filter((other) => other !== key),
      secrets: names.map((row) => row.secret),
    })
  }

  /** Keys of a secret that are files. */
  async filesOf(namespace: string, secret: string): Promise<string[]> {
    if (this.#sources.dir === null) return []
    const qualified = await this.#sources.listFiles([...namespace.split('/'), secret])
    return namespace === 'default' ? [...qualified, ...(await this.#sources.listFiles([secret]))] : qualified
  }

  /** A value that is stored and cannot be read is a failure: what lies in a later place may be another one. */
  async #open(own: readonly SecretValueRow[], wanted: WantedSecret): Promise<string | Failure | { why: string }> {
    const row = own.find((candidate) => candidate.key === wanted.key)
    if (!row) return { why: own.length > 0 ? 'the secret has no such key' : 'no such secret' }
    try {
      return await this.#ring.open(row, row)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      return new Failure(error.code, wanted.attempted, {
        cause: error,
        evidence: { ...wanted.evidence, ...error.evidence },
        remediation: error.remediation,
      })
    }
  }

  async #look(spot: SecretSpot): Promise<string | { why: string }> {
    if (spot.from !== 'file') {
      const value = this.#sources.readVariable(spot.name)
      return value === undefined ? { why: 'not set' } : value === '' ? { why: 'set, but empty' } : value
    }
    const got = await this.#sources.readFile(spot.path)
    return got.kind === 'found' ? got.value : { why: got.kind === 'absent' ? 'no such file' : got.why }
  }
}
