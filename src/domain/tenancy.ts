/**
 * Who owns a namespace. A namespace is stored as one text: its plain name in the organisation `default`, and
 * `<organisation>/<name>` in every other one. A **reach** says which of them somebody may see: null is everything, `acme/*` the
 * whole organisation `acme`, anything else one stored namespace.
 */
export type Reach = readonly string[] | null

/** The organisation that is there at once, so that a single user never meets the idea. */
export const DEFAULT_ORGANISATION = 'default'
/** In place of an organisation: all of them. */
export const EVERY_ORGANISATION = '*'

/** Organisations and namespaces are named like hosts. */
export const TENANT_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

const isPlain = (organisation: string): boolean =>
  organisation === DEFAULT_ORGANISATION || organisation === EVERY_ORGANISATION

/** How a namespace that a caller of this organisation names is stored. */
export const storedNamespace = (organisation: string, name: string): string =>
  isPlain(organisation) ? name : `${organisation}/${name}`

/** How a stored namespace reads to a caller of this organisation, who sees no other. */
export function shownNamespace(organisation: string, stored: string): string {
  const prefix = `${organisation}/`
  return !isPlain(organisation) && stored.startsWith(prefix) ? stored.slice(prefix.length) : stored
}

/** The name of a namespace within its organisation: what the people of it call it. */
export const plainNamespace = (stored: string): string => stored.slice(stored.indexOf('/') + 1)

export function organisationOf(stored: string): string {
  const at = stored.indexOf('/')
  return at < 0 ? DEFAULT_ORGANISATION : stored.slice(0, at)
}

/** The reach of a token: of everything, of an organisation, or of some of its namespaces. */
export function reachOf(organisation: string, namespaces: readonly string[] | null): string[] | null {
  if (namespaces !== null) return namespaces.map((name) => storedNamespace(organisation, name))
  return organisation === EVERY_ORGANISATION ? null : [`${organisation}/*`]
}

/** Whether a stored namespace lies within a reach. The SQL function `in_reach` says the same. */
export const isWithin = (reach: Reach, stored: string): boolean =>
  reach === null || reach.includes(stored) || reach.includes(`${organisationOf(stored)}/*`)

/** Whether everything within `inner` is within `outer`. */
export const covers = (outer: Reach, inner: Reach): boolean =>
  outer === null || (inner !== null && inner.every((one) => outer.includes(one) || isWithin(outer, one)))

/** Whether some namespace may lie within both. */
export const overlaps = (a: Reach, b: Reach): boolean =>
  a === null || b === null || a.some((one) => covers(b, [one])) || b.some((one) => covers(a, [one]))
