import { nearest } from '../../base/nearest.ts'
import { type Offer, type Requirements, WORKER_PIN } from '../workflow.ts'
import { isWithin, plainNamespace } from '../tenancy.ts'

/** One requirement that a worker does not meet. */
export interface Lack {
  /** As `missingFor` writes it: `label gpu=yes`, `module tools`. */
  requirement: string
  /** What the worker has instead, when it is nearly that or stands under the same key; null when there is nothing of the kind. */
  has: string | null
  /** How little separates the two; null when they are not alike. */
  near: 'case' | 'spelling' | null
}

/** Shorter words are all alike: `eu` and `us` are two letters apart and two places. */
const SPELLING_MIN = 5

const plain = (text: string): string => text.toLowerCase().replaceAll(/[\s._-]/g, '')

/** The candidate that was most likely meant; null when none is like it. */
export function nearMiss(
  wanted: string,
  candidates: readonly string[],
): { candidate: string; near: 'case' | 'spelling' } | null {
  const others = candidates.filter((candidate) => candidate !== wanted)
  const inCase = others.find((candidate) => candidate.toLowerCase() === wanted.toLowerCase())
  if (inCase !== undefined) return { candidate: inCase, near: 'case' }
  const inMarks = others.find((candidate) => plain(candidate) === plain(wanted) && plain(wanted) !== '')
  if (inMarks !== undefined) return { candidate: inMarks, near: 'spelling' }
  if (wanted.length < SPELLING_MIN) return null
  const close = nearest(
    wanted,
    others.filter((candidate) => candidate.length >= SPELLING_MIN),
  )
  return close === null ? null : { candidate: close, near: 'spelling' }
}

/** What `offer` lacks for `r`, each with what comes near. Names the same requirements as `missingFor`, in its order. */
export function lacksOf(r: Requirements, offer: Offer): Lack[] {
  const lacks: Lack[] = []
  const oneOf = (what: string, wanted: string, offered: readonly string[]) => {
    if (offered.includes(wanted)) return
    const miss = nearMiss(wanted, offered)
    lacks.push({
      requirement: `${what} ${wanted}`,
      has: miss ? `${what} ${miss.candidate}` : null,
      near: miss?.near ?? null,
    })
  }
  if (offer.namespaces && !isWithin(offer.namespaces, r.namespace))
    oneOf('namespace', plainNamespace(r.namespace), offer.namespaces)
  oneOf('backend', r.backend, offer.backends)
  if (r.module !== null) oneOf('module', r.module, offer.modules)
  // Nobody gives a worker a feature but by a newer version: nothing comes near.
  for (const feature of r.features ?? [])
    if (!offer.features?.includes(feature)) lacks.push({ requirement: `feature ${feature}`, has: null, near: null })
  for (const [key, value] of Object.entries(r.labels)) {
    if (key === WORKER_PIN) oneOf('worker', value, [offer.worker])
    else if (offer.labels[key] !== value) lacks.push(lackOfLabel(key, value, offer.labels))
  }
  return lacks
}

function lackOfLabel(key: string, value: string, labels: Record<string, string>): Lack {
  const requirement = `label ${key}=${value}`
  const under = labels[key]
  if (under !== undefined) {
    return { requirement, has: `label ${key}=${under}`, near: nearMiss(value, [under])?.near ?? null }
  }
  const miss = nearMiss(key, Object.keys(labels))
  if (!miss) return { requirement, has: null, near: null }
  const found = labels[miss.candidate] ?? ''
  const isSame = found === value || nearMiss(value, [found]) !== null
  // The key is alike and the value is another one altogether: shown, but it would not do after a correction either.
  return { requirement, has: `label ${miss.candidate}=${found}`, near: isSame ? miss.near : null }
}
