import type { JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { Queryable } from '../../store/db.ts'
import type { Ref } from './resource-engine.ts'

/** Keeps the values of sealed kinds apart from their resources, in the same transaction. */
export interface Sealing {
  /** Gives the spec as it may be stored, without a value. `former` is what is stored now; it is what comes back when its values are the same. */
  seal(
    tx: Queryable,
    of: Ref,
    spec: JsonObject,
    options: { former: JsonObject | null; dryRun: boolean },
  ): Promise<JsonObject>
  /** The resource is gone, and its values with it. */
  forget(tx: Queryable, of: Ref): Promise<void>
}

const refuse = (of: Ref): Promise<never> =>
  Promise.reject(
    new Failure('secret.sealing_unavailable', `storing ${of.kind} ${of.namespace}/${of.name}`, {
      evidence: { kind: of.kind, namespace: of.namespace, name: of.name },
    }),
  )

/** Where nothing can be encrypted nothing is stored. */
export const refuseSealing: Sealing = { seal: (_, of) => refuse(of), forget: () => Promise.resolve() }
