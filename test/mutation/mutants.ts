// Ways to break the engine, one replacement each, and what is to notice them.

export interface Mutant {
  name: string
  /** From the root of the checkout. */
  file: string
  /** Must stand in the file exactly once. */
  from: string
  to: string
  /** What the one that notices it says. */
  caughtAs: RegExp
}

export interface SimMutant extends Mutant {
  /** Seeds that show it, best first. */
  seeds: number[]
}

/** These seeds, and should the engine's timing have moved since, others: about one in ten shows what is hardest to see. */
const thenOthers = (...best: number[]): number[] => [
  ...best,
  ...Array.from({ length: 36 }, (_, i) => i + 1).filter((seed) => !best.includes(seed)),
]

const COMPLETE = 'src/store/steps/complete-steps.ts'

export const SIM_MUTANTS: SimMutant[] = [
  {
    name: 'no fence where successes are recorded',
    file: COMPLETE,
    from: 'and s.session = r.session and s.fence = r.fence -- the fence',
    to: 'and s.session = r.session -- the fence',
    seeds: thenOthers(25, 51, 8, 37, 45, 55),
    caughtAs: /write without current (session and )?fence/,
  },
  {
    name: 'no session where successes are recorded',
    file: COMPLETE,
    from: 'and s.session = r.session and s.fence = r.fence -- the fence',
    to: 'and s.fence = r.fence -- the fence',
    seeds: thenOthers(3, 5, 11, 14),
    caughtAs: /write without current session/,
  },
  {
    name: 'an assignment whose reply was lost is never sent again',
    file: 'src/engine/reconcile.ts',
    from: 'session.outgoing.push(owned.assignment)',
    to: '',
    seeds: thenOthers(21, 28, 29, 11, 31),
    caughtAs: /assignment lost/,
  },
  {
    name: 'steps of lost sessions are not requeued',
    file: 'src/engine/ticks.ts',
    from: 'let more = hasOrphans && (await this.#requeueOrphans())',
    to: 'let more = hasOrphans && false',
    seeds: thenOthers(1, 2, 3),
    caughtAs: /does not end/,
  },
]

const HOLD = 'src/store/journal/hold-steps.ts'
const APPEND = 'src/store/journal/append-entries.ts'
const APPEND_AT = 'src/store/journal/append-at.ts'

export const RACE_MUTANTS: Mutant[] = [
  {
    name: 'entries are journaled under a fence that is over',
    file: APPEND,
    from: 'and s.session = k.session and s.fence = k.fence',
    to: 'and s.session = k.session',
    caughtAs: /entry of an attempt that has lost its step was journaled/,
  },
  {
    name: 'steps are held under a fence that is over',
    file: HOLD,
    from: 'and s.session = k.session and s.fence = k.fence',
    to: 'and s.session = k.session',
    caughtAs: /held by an attempt that has lost it/,
  },
  {
    name: 'an append does not hold its step',
    file: HOLD,
    from: 'for no key update of s',
    to: '',
    caughtAs: /taken back in the middle of an append/,
  },
  {
    name: 'entries are journaled at once under a fence that is over',
    file: APPEND_AT,
    from: `(s.state = 'running') is true and s.session = k.session and s.fence = k.fence`,
    to: `(s.state = 'running') is true and s.session = k.session`,
    caughtAs: /journaled at once for an attempt that has lost its step/,
  },
  {
    name: 'entries are journaled at once by rules that have changed',
    file: APPEND_AT,
    from: '(select version from clock) = $1',
    to: '$1::bigint is not null',
    caughtAs: /journaled by rules of another version/,
  },
  {
    name: 'entries are journaled at once without holding their step',
    file: APPEND_AT,
    from: 'for no key update of s',
    to: '',
    caughtAs: /journaled at once while the step was taken back/,
  },
  {
    name: 'something is set aside by a count that is over',
    file: APPEND_AT,
    from: 'c.count_id = w.count_id::uuid',
    to: 'w.count_id is not null',
    caughtAs: /set aside by a count that is over/,
  },
  {
    name: 'something is set aside by a count that was good when the statement began',
    file: APPEND_AT,
    from: 'c.count_id = w.count_id::uuid',
    to: '(select b.count_id from budget_counter b where b.budget = w.budget and b.key = w.key) = w.count_id::uuid',
    caughtAs: /set aside while somebody counted/,
  },
  {
    name: 'counters are held before the steps',
    file: APPEND_AT,
    from: '(select count(*) from held) > 0',
    to: 'exists (select 1 from held)',
    caughtAs: /counter was held by who waited for a step/,
  },
  {
    name: 'something is set aside whatever was spent beyond',
    file: APPEND_AT,
    from: 's.is_uncovered and s.namespace',
    to: 'false and s.namespace',
    caughtAs: /set aside without what was spent beyond/,
  },
  {
    name: 'something is set aside without holding its counters',
    file: APPEND_AT,
    from: ' for share of c',
    to: '',
    caughtAs: /counted without what was being set aside/,
  },
  {
    name: 'successes of ended sessions are recorded',
    file: COMPLETE,
    from: `and (u.session in (select w.id from session w where w.id = any($4::text[]) and w.state = 'live')) is true`,
    to: '',
    caughtAs: /session that has ended was recorded/,
  },
  {
    name: 'successes are recorded without the lock of their run',
    file: COMPLETE,
    from: 'order by id for no key update',
    to: 'order by id',
    caughtAs: /a run that was canceled meanwhile/,
  },
  {
    name: 'runs are locked in the order of the reports',
    file: COMPLETE,
    from: 'order by id for no key update',
    to: 'order by array_position($12::text[], id) for no key update',
    caughtAs: /two batches over the same runs: .*deadlock/,
  },
  {
    name: 'a join moves by one however many of its needs end in a batch',
    file: COMPLETE,
    from: `max(a.session) as session, count(*)::int as n`,
    to: `max(a.session) as session, 1 as n`,
    caughtAs: /two needs of a join in one batch/,
  },
]
