import { invalidRequest } from '../contract/check-request.ts'
import type { ResourceView } from '../contract/resource-types.ts'
import type { ResourceDocument } from '../domain/kinds/documents.ts'
import {
  DEFAULT_ORGANISATION,
  EVERY_ORGANISATION,
  shownNamespace,
  storedNamespace,
  TENANT_NAME,
} from '../domain/tenancy.ts'
import type { Definition } from '../domain/workflow.ts'
import type { Caller } from '../engine/engine.ts'

// A caller names namespaces by their plain names; the store keeps them with their organisation. This is where the one becomes the
// other, and back.

/** A namespace that an address or a query names, as it is stored. Only who sees every organisation may name one with its own. */
export function ownNamespace(caller: Caller, name: string): string {
  const parts = name.split('/')
  const isNamed = parts.length === 2 && caller.organisation === EVERY_ORGANISATION && parts[0] !== DEFAULT_ORGANISATION
  if ((parts.length > 1 && !isNamed) || !parts.every((part) => TENANT_NAME.test(part)))
    throw invalidRequest(
      'reading the address',
      'namespace',
      'must be lower-case letters, digits and hyphens, at most 63',
    )
  return storedNamespace(caller.organisation, name)
}

/** A definition as the caller wrote it, in the namespace as it is stored. */
export const ownDefinition = (caller: Caller, definition: Definition): Definition => {
  const namespace = storedNamespace(caller.organisation, definition.namespace)
  return namespace === definition.namespace ? definition : { ...definition, namespace }
}

/** What is answered, with its namespace as the caller knows it. */
export function shown<T extends { namespace: string }>(caller: Caller, view: T): T {
  const namespace = shownNamespace(caller.organisation, view.namespace)
  return namespace === view.namespace ? view : { ...view, namespace }
}

/** A document as the caller wrote it, in the namespace as it is stored. */
export const ownDocument = (caller: Caller, document: ResourceDocument): ResourceDocument => ({
  ...document,
  namespace: storedNamespace(caller.organisation, document.namespace),
  definition: document.definition && ownDefinition(caller, document.definition),
})

/** A resource with its namespace as the caller knows it. */
export const shownResource = (caller: Caller, view: ResourceView): ResourceView => ({
  ...view,
  metadata: shown(caller, view.metadata),
})
