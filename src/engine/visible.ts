import { covers, isWithin, overlaps, type Reach, shownNamespace, storedNamespace } from '../domain/tenancy.ts'
import type { Caller } from './engine.ts'

/**
 * The one place that decides what a caller sees. SQL asks `in_reach(namespace, reach)` with what `reach` gives; what is not within
 * it is answered as if it did not exist.
 */
type Seer = Pick<Caller, 'organisation' | 'namespaces'>

/** What a caller may see, for a statement. */
export const reach = (caller: Seer): Reach => caller.namespaces

/** Whether a caller sees what lies in a stored namespace. */
export const canSee = (caller: Seer, namespace: string): boolean => isWithin(caller.namespaces, namespace)

/** What is left of a caller's reach when a namespace was named, by its plain name: one that may not be seen is one without anything. */
export function reachWithin(caller: Seer, name: string | null): Reach {
  if (name === null) return caller.namespaces
  const namespace = storedNamespace(caller.organisation, name)
  return canSee(caller, namespace) ? [namespace] : []
}

/** The namespaces that a worker may serve which asks for these, by their plain names; null asks for all it may. Empty: for none of them. */
export function servedBy(caller: Seer, names: readonly string[] | null): string[] | null {
  if (names === null) return caller.namespaces
  return names.map((name) => storedNamespace(caller.organisation, name)).filter((name) => canSee(caller, name))
}

/** A caller's reach as he names it; null is everything. */
export const shownReach = (caller: Seer): string[] | null =>
  caller.namespaces?.map((name) => shownNamespace(caller.organisation, name)) ?? null

/** Whether a caller sees a worker: one that serves a part of what he sees. One that serves everybody is for those who see everything. */
export const canSeeWorker = (caller: Seer, serves: Reach): boolean =>
  caller.namespaces === null || (serves !== null && overlaps(caller.namespaces, serves))

/** Whether a caller may be told that a session of another token exists. */
export const knowsSession = (caller: Seer, serves: Reach): boolean => covers(caller.namespaces, serves)
