import type { RotateSecretsResponse, RunView, SecretDetail, SecretView, StepView } from '../contract/api-types.ts'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { plainNamespace, shownNamespace } from '../domain/tenancy.ts'
import type { Db, Queryable } from '../store/db.ts'
import { advanceResourceClock, lockResourceClock } from '../store/resources/resource-clock.ts'
import { KeyRing } from '../store/secrets/key-ring.ts'
import {
  claimStaleValues,
  countByKey,
  countOtherKeys,
  deleteSecretKeys,
  findNamespacesOfSecret,
  findSecretValues,
  listSecretNames,
  putSecretValues,
  resealValues,
} from '../store/secrets/secret-values.ts'
import type { Caller } from './engine.ts'
import { SecretResolver } from './secret-resolver.ts'
import { NO_SOURCES, type SecretSources } from './secret-sources.ts'
import { canSee, reach, shownReach } from './visible.ts'

/** What the engine is handed to keep secrets with. */
export interface SecretDeps {
  ring: KeyRing
  sources: SecretSources
  /** Told every value that is set or resolved, so that the log of this server can leave it out. */
  remember(value: string): void
}

const NO_SECRETS: SecretDeps = { ring: new KeyRing(null), sources: NO_SOURCES, remember: () => {} }

/** The clock of resources moves with secrets too: whoever has values of some asks for them again. */
async function tellOfSecrets(tx: Queryable): Promise<void> {
  const { version } = await lockResourceClock(tx)
  await advanceResourceClock(tx, version + 1)
}

/** Secrets as people set and look at them. Values go in and never come out. */
export class Secrets {
  readonly resolver: SecretResolver
  readonly #db: Db
  readonly #deps: SecretDeps

  constructor(db: Db, deps: SecretDeps = NO_SECRETS) {
    this.#db = db
    this.#deps = deps
    this.resolver = new SecretResolver({ ...deps, db, remember: (value) => deps.remember(value) })
  }

  /** Sets keys of a secret; the others stay unless it is to be replaced. */
  async put(
    caller: Caller,
    at: { namespace: string; secret: string },
    body: { values: Record<string, string>; replace: boolean },
  ): Promise<SecretView> {
    const what = `storing secret ${plainNamespace(at.namespace)}/${at.secret}`
    if (!canSee(caller, at.namespace))
      throw new Failure('client.forbidden', what, { evidence: { namespaces: shownReach(caller) } })
    const keys = Object.keys(body.values)
    const others = body.replace ? 0 : await countOtherKeys(this.#db, { ...at, keys })
    if (keys.length + others > LIMITS.secretKeysMax)
      throw new Failure('request.too_large', `${what}: it would have ${keys.length + others} keys`, {
        evidence: { limit: LIMITS.secretKeysMax },
      })
    const sealing = await this.#deps.ring.active(what)
    const sealed = Object.entries(body.values).map(([key, value]) => {
      this.#deps.remember(value)
      return { ...at, key, ...sealing.seal(value, { ...at, key }) }
    })
    await this.#db.transaction(async (tx) => {
      await tellOfSecrets(tx)
      if (body.replace) await deleteSecretKeys(tx, { ...at, keys: null })
      await putSecretValues(tx, sealed)
    })
    return this.#view(at)
  }

  async list(
    caller: Caller,
    { namespace, cursor, limit }: { namespace: string; cursor: string | null; limit: number },
  ): Promise<{ items: SecretView[]; next: string | null }> {
    if (!canSee(caller, namespace)) return { items: [], next: null }
    const rows = await listSecretNames(this.#db, { namespace, after: cursor ?? '', limit: limit + 1 })
    const items = rows.slice(0, limit).map((row) => ({
      namespace,
      name: row.secret,
      keys: row.keys,
      sealedBy: row.keyIds,
      updatedAt: row.updatedAt.toISOString(),
    }))
    return { items, next: rows.length > limit ? (items.at(-1)?.name ?? null) : null }
  }

  /** The keys of a secret and where each would be found. `asked` are looked for as well, stored or not. */
  async get(
    caller: Caller,
    at: { namespace: string; secret: string },
    { asked }: { asked: readonly string[] },
  ): Promise<SecretDetail> {
    const rows = canSee(caller, at.namespace) ? await findSecretValues(this.#db, [at]) : []
    const files = canSee(caller, at.namespace) ? await this.resolver.filesOf(at.namespace, at.secret) : []
    const keys = [...new Set([...rows.map((row) => row.key), ...files, ...asked])].sort()
    if (keys.length === 0 || !canSee(caller, at.namespace)) throw await this.#notFound(caller, at)
    return {
      namespace: at.namespace,
      name: at.secret,
      keys: await Promise.all(
        keys.map(async (key) => {
          const row = rows.find((candidate) => candidate.key === key)
          const spots = await this.resolver.spots({ secret: at.secret, key }, at.namespace, row !== undefined)
          return {
            key,
            stored: row ? { sealedBy: row.keyId, updatedAt: row.updatedAt.toISOString() } : null,
            places: spots.map(({ from, name, found }) => ({ from, name, found: found === null, note: found })),
          }
        }),
      ),
    }
  }

  /** Removes a secret, or keys of it. */
  async delete(
    caller: Caller,
    at: { namespace: string; secret: string },
    { keys }: { keys: string[] | null },
  ): Promise<{ deleted: string[] }> {
    const deleted = canSee(caller, at.namespace)
      ? await this.#db.transaction(async (tx) => {
          await tellOfSecrets(tx)
          return deleteSecretKeys(tx, { ...at, keys })
        })
      : []
    if (deleted.length === 0) throw await this.#notFound(caller, at, keys)
    return { deleted }
  }

  /**
   * Seals the next values anew that are not sealed by the active key. Twice is safe, from several servers at once too: who was cut
   * off begins again where it was.
   */
  async rotate(caller: Caller, { newKey }: { newKey: boolean }): Promise<RotateSecretsResponse> {
    if (reach(caller) !== null)
      throw new Failure('client.forbidden', 'encrypting all secrets anew', {
        evidence: { namespaces: shownReach(caller) },
      })
    const { ring } = this.#deps
    if (newKey) await ring.renew()
    else ring.reload()
    const active = await ring.active('encrypting all secrets anew')
    const known = await ring.ids()
    const resealed = await this.#db.transaction(async (tx) => {
      const rows = await claimStaleValues(tx, { active: active.id, known, limit: LIMITS.secretsResealMax })
      const fresh = []
      for (const row of rows) {
        const value = await ring.open(row, row)
        const { namespace, secret, key } = row
        fresh.push({ namespace, secret, key, ...active.seal(value, row), former: row.keyId })
      }
      return fresh.length === 0 ? 0 : resealValues(tx, fresh)
    })
    const counts = await countByKey(this.#db)
    const others = counts.filter((count) => count.keyId !== active.id)
    return {
      activeKey: active.id,
      olderKeys: known.filter((id) => id !== active.id),
      resealed,
      remaining: others.filter((count) => known.includes(count.keyId)).reduce((sum, count) => sum + count.values, 0),
      unreadable: others.filter((count) => !known.includes(count.keyId)),
    }
  }

  async #view(at: { namespace: string; secret: string }): Promise<SecretView> {
    const rows = await findSecretValues(this.#db, [at])
    return {
      namespace: at.namespace,
      name: at.secret,
      keys: rows.map((row) => row.key),
      sealedBy: [...new Set(rows.map((row) => row.keyId))],
      updatedAt: new Date(Math.max(0, ...rows.map((row) => row.updatedAt.getTime()))).toISOString(),
    }
  }

  async #notFound(
    caller: Caller,
    at: { namespace: string; secret: string },
    keys: string[] | null = null,
  ): Promise<Failure> {
    const what = `looking for ${keys ? `${keys.join(', ')} of ` : ''}secret ${plainNamespace(at.namespace)}/${at.secret}`
    const elsewhere = await this.#elsewhere(caller, at)
    const there = canSee(caller, at.namespace) ? (await findSecretValues(this.#db, [at])).map((row) => row.key) : []
    return new Failure(there.length > 0 ? 'secret.key_not_found' : 'secret.not_found', what, {
      evidence: { ...(there.length > 0 ? { keys: there } : {}), ...(elsewhere.length > 0 ? { elsewhere } : {}) },
      ...(elsewhere.length > 0
        ? { remediation: `A secret of this name is in namespace ${elsewhere.join(', ')}: name it with --namespace.` }
        : {}),
    })
  }

  /** Adds to failures of a missing secret where else, of what the caller may see, there is one of its name. */
  async tellElsewhere(caller: Caller, run: RunView): Promise<RunView> {
    const isMissing = (step: StepView): boolean => step.failure?.code === 'secret.not_found'
    if (!run.stepList.some(isMissing)) return run
    const told = async (failure: StepView['failure']): Promise<StepView['failure']> => {
      const secret = failure?.evidence?.['secret']
      if (failure?.code !== 'secret.not_found' || typeof secret !== 'string') return failure
      const elsewhere = await this.#elsewhere(caller, { namespace: run.namespace, secret })
      return elsewhere.length === 0 ? failure : { ...failure, evidence: { ...failure.evidence, elsewhere } }
    }
    const stepList: StepView[] = []
    for (const step of run.stepList)
      stepList.push(isMissing(step) ? { ...step, failure: await told(step.failure) } : step)
    return { ...run, failure: await told(run.failure), stepList }
  }

  /** A failure, with where else there is a secret of the name that it misses. */
  async withElsewhere(caller: Caller, namespace: string, failure: Failure): Promise<Failure> {
    const secret = failure.evidence?.['secret']
    if (failure.code !== 'secret.not_found' || typeof secret !== 'string') return failure
    const elsewhere = await this.#elsewhere(caller, { namespace, secret })
    if (elsewhere.length === 0) return failure
    const { code, message, cause, evidence, remediation } = failure
    return new Failure(code, message, { cause, evidence: { ...evidence, elsewhere }, remediation })
  }

  /** Namespaces that hold a secret of this name and that the caller may see. */
  async #elsewhere(caller: Caller, at: { namespace: string; secret: string }): Promise<string[]> {
    const which = { secret: at.secret, besides: at.namespace, namespaces: reach(caller) }
    const found = await findNamespacesOfSecret(this.#db, which)
    return found.map((namespace) => shownNamespace(caller.organisation, namespace))
  }
}
