import type { JsonObject } from '../../base/json.ts'
import { nearest } from '../../base/nearest.ts'
import { type FailureRecord, failureRecord } from '../failure.ts'
import { covers, isWithin, overlaps, plainNamespace } from '../tenancy.ts'
import { type Offer, type Requirements, WORKER_PIN } from '../workflow.ts'
import { type Lack, lacksOf } from './lacks.ts'

/** A worker as rows tell of it. */
export interface WorkerFacts extends Offer {
  session: string
  state: 'live' | 'lost' | 'draining'
  lastHeartbeatMs: number
  held: number
  capacity: number
}

export type Verdict =
  | { kind: 'unserved'; failure: FailureRecord }
  /** These are ready and could take the step. */
  | { kind: 'fitting'; workers: WorkerFacts[] }

const WORKERS_SHOWN = 20

const serves = (worker: WorkerFacts, namespace: string): boolean => isWithin(worker.namespaces, namespace)

/** Whether whoever sees `viewer` (a reach; null: everything) may know that this worker exists. */
const maySee = (worker: WorkerFacts, viewer: readonly string[] | null): boolean =>
  worker.namespaces === null || overlaps(viewer, worker.namespaces)

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`

const factsOf = (worker: WorkerFacts): JsonObject => ({
  worker: worker.worker,
  state: worker.state,
  lastHeartbeatMs: Math.round(worker.lastHeartbeatMs),
  held: worker.held,
  capacity: worker.capacity,
  draining: worker.state === 'draining',
})

/**
 * Who could take a queued step; else what keeps all workers from it. Pure. Workers that do not serve the step's namespace are named
 * to those alone who may see another namespace of theirs.
 */
export function judgeWorkers(facts: {
  requirements: Requirements
  workers: readonly WorkerFacts[]
  waitedMs: number
  viewer: readonly string[] | null
}): Verdict {
  const { requirements, workers, viewer } = facts
  const doing = `waiting ${seconds(facts.waitedMs)} for a worker`
  const unserved = (failure: FailureRecord): Verdict => ({ kind: 'unserved', failure })
  const serving = workers.filter((w) => serves(w, requirements.namespace))
  const elsewhere = workers.filter((w) => !serving.includes(w))
  const pinned = requirements.labels[WORKER_PIN]
  if (pinned !== undefined && workers.length > 0 && !serving.some((w) => w.worker === pinned)) {
    return unserved(unknownWorker({ doing, pinned, requirements, serving, elsewhere, viewer }))
  }
  const ready = serving.filter((w) => w.state === 'live')
  if (serving.length === 0 && elsewhere.some((w) => w.state === 'live')) {
    return unserved(outOfScope(doing, requirements.namespace, elsewhere, viewer))
  }
  if (serving.length === 0) return unserved(failureRecord('dispatch.no_worker', doing))
  const judged = serving.map((worker) => ({ worker, lacks: lacksOf(requirements, worker) }))
  const fitting = judged.filter(({ worker, lacks }) => worker.state === 'live' && lacks.length === 0)
  if (fitting.length > 0) return { kind: 'fitting', workers: fitting.map((j) => j.worker) }
  // A worker that has all it takes and is away is a better answer than what the others lack.
  const away = judged.filter(({ worker, lacks }) => worker.state !== 'live' && lacks.length === 0)
  if (away.length > 0) return unserved(notReady(doing, [...away.map((j) => j.worker)]))
  if (ready.length === 0) return unserved(notReady(doing, serving))
  return unserved(requirementsUnmet(doing, requirements, judged))
}

function unknownWorker(x: {
  doing: string
  pinned: string
  requirements: Requirements
  serving: WorkerFacts[]
  elsewhere: WorkerFacts[]
  viewer: readonly string[] | null
}): FailureRecord {
  const { doing, pinned, requirements, serving } = x
  const known = x.elsewhere.find((w) => w.worker === pinned && maySee(w, x.viewer))
  if (known) return outOfScope(doing, requirements.namespace, [known], x.viewer)
  const names = [...new Set(serving.map((w) => w.worker))]
  const near = nearest(pinned, names)
  return failureRecord('dispatch.worker_unknown', `${doing} named ${pinned}`, {
    evidence: {
      worker: pinned,
      ...(near === null ? {} : { nearest: near }),
      workers: names.slice(0, WORKERS_SHOWN),
    },
    remediation:
      near === null
        ? `No worker of the name ${pinned} is connected: start it with orrery worker --name ${pinned}, or correct runsOn.worker of the step.`
        : `No worker of the name ${pinned} is connected; did you mean ${near}? Correct runsOn.worker of the step, or start it: orrery worker --name ${pinned}.`,
  })
}

function outOfScope(
  doing: string,
  namespace: string,
  elsewhere: readonly WorkerFacts[],
  viewer: readonly string[] | null,
): FailureRecord {
  const seen = elsewhere.filter((w) => maySee(w, viewer)).slice(0, WORKERS_SHOWN)
  const visible = (w: WorkerFacts) => (w.namespaces ?? []).filter((n) => covers(viewer, [n])).map(plainNamespace)
  const name = plainNamespace(namespace)
  return failureRecord('dispatch.scope_mismatch', `${doing} of namespace ${name}`, {
    evidence: {
      namespace: name,
      ...(seen.length > 0 ? { workers: seen.map((w) => ({ worker: w.worker, namespaces: visible(w) })) } : {}),
    },
    remediation: `No connected worker serves namespace ${name}: start one with orrery worker --namespace ${name} and a token that may serve it.`,
  })
}

function notReady(doing: string, workers: readonly WorkerFacts[]): FailureRecord {
  const [first] = workers
  const others = workers.length > 1 ? ` and ${workers.length - 1} more` : ''
  return failureRecord('dispatch.no_ready_worker', doing, {
    evidence: { workers: workers.slice(0, WORKERS_SHOWN).map(factsOf) },
    ...(first
      ? {
          remediation: `Worker ${first.worker}${others} is ${first.state}, last heard of ${seconds(first.lastHeartbeatMs)} ago: look at its host and log, or start another: orrery worker --server URL.`,
        }
      : {}),
  })
}

type Judged = { worker: WorkerFacts; lacks: Lack[] }

function requirementsUnmet(doing: string, requirements: Requirements, judged: readonly Judged[]): FailureRecord {
  const all = requirementTexts(requirements)
  // Nearest first: the one that lacks least, and of those the one that lacks it by a letter.
  const misses = (j: Judged) => j.lacks.filter((l) => l.near !== null).length
  const order = judged.toSorted((a, b) => a.lacks.length - b.lacks.length || misses(b) - misses(a))
  const shown = order.slice(0, WORKERS_SHOWN).map(({ worker, lacks }) => ({
    worker: worker.worker,
    state: worker.state,
    lacks: lacks.map((l) => l.requirement),
    ...(lacks.some((l) => l.has !== null)
      ? { has: Object.fromEntries(lacks.filter((l) => l.has !== null).map((l) => [l.requirement, l.has])) }
      : {}),
  }))
  const near = order.flatMap(({ worker, lacks }) =>
    lacks
      .filter((l) => l.near !== null)
      .map((l) => ({ worker: worker.worker, wanted: l.requirement, has: l.has, differs: l.near })),
  )
  const [closest] = near
  const best = order[0]
  return failureRecord('dispatch.requirements_unmet', doing, {
    evidence: {
      requirements: all,
      workers: shown,
      ...(near.length > 0 ? { nearMisses: near.slice(0, WORKERS_SHOWN) } : {}),
    },
    remediation: closest
      ? `Worker ${closest.worker} has ${closest.has ?? ''}, the step wants ${closest.wanted}: only ${closest.differs === 'case' ? 'letter case' : 'the spelling'} differs. Correct the step or the worker.`
      : best && best.lacks.every((l) => l.requirement.startsWith('feature '))
        ? `Worker ${best.worker.worker} is of a version that lacks ${best.lacks.map((l) => l.requirement).join(', ')}: start the worker anew with the version of the server.`
        : `${best ? `Worker ${best.worker.worker} comes nearest and lacks ${best.lacks.map((l) => l.requirement).join(', ')}. ` : ''}Start a worker that has what is missing, or correct the step.`,
  })
}

/** The columns of the table worker × requirement. */
export function requirementTexts(r: Requirements): string[] {
  return [
    `namespace ${plainNamespace(r.namespace)}`,
    `backend ${r.backend}`,
    ...(r.module === null ? [] : [`module ${r.module}`]),
    ...(r.features ?? []).map((feature) => `feature ${feature}`),
    ...Object.entries(r.labels).map(([key, value]) =>
      key === WORKER_PIN ? `worker ${value}` : `label ${key}=${value}`,
    ),
  ]
}

/** Workers fit and none takes the step: all their slots are held. `place` is null where it was not counted. */
export function saturated(facts: {
  waitedMs: number
  fitting: readonly WorkerFacts[]
  place: { ahead: number; oldestMs: number } | null
  holders: readonly { step: string; worker: string; forMs: number }[]
}): FailureRecord {
  const { place, fitting, holders } = facts
  const idle = fitting.find((w) => w.held < w.capacity)
  const isForgotten = idle !== undefined && holders.length === 0 && (place?.ahead ?? 0) === 0
  return failureRecord('dispatch.saturated', `waiting ${seconds(facts.waitedMs)} for a worker`, {
    evidence: {
      ...(place ? { position: place.ahead + 1, ahead: place.ahead, oldestWaitMs: Math.round(place.oldestMs) } : {}),
      workers: fitting.slice(0, WORKERS_SHOWN).map(factsOf),
      holders: holders.map((h) => ({ step: h.step, worker: h.worker, forMs: Math.round(h.forMs) })),
    },
    ...(isForgotten
      ? {
          remediation: `Worker ${idle.worker} seems to have a free slot and takes the step within a second; when it does not, look at its log and at the link to it.`,
        }
      : {}),
  })
}
