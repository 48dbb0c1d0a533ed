import type { JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { Ref } from './resource-engine.ts'

/** Turns the spec of a sealed kind into what may be stored. */
export interface Sealing {
  /** `former` is what is stored now; it is what comes back when its values are the same. */
  seal(of: Ref, spec: JsonObject, former: JsonObject | null): Promise<JsonObject>
}

/** Where nothing can be encrypted nothing is stored. */
export const refuseSealing: Sealing = {
  seal: (of) =>
    Promise.reject(
      new Failure('secret.sealing_unavailable', `storing ${of.kind} ${of.namespace}/${of.name}`, {
        evidence: { kind: of.kind, namespace: of.namespace, name: of.name },
      }),
    ),
}
