import { type BudgetSpec, nanosOf } from '../kinds/budget.ts'

/** What is known of one window of a budget. */
export interface WindowState {
  tokens: number
  nanos: number
  /** Set aside for calls that are not answered yet. */
  heldTokens: number
  heldNanos: number
}

/** What a call may take at most. Nanos are null when its price in the currency of the budget is not known. */
export interface Wanted {
  tokens: number
  nanos: number | null
}

/** Why a call does not fit, with the figures in tokens, or in billionths of the currency. */
export type Misfit =
  | { of: 'price' }
  | {
      of: 'tokens' | 'money'
      limit: number
      spent: number
      held: number
      wanted: number
      /** `larger`: it never fits. `spent`: when something has left the window. `held`: when other calls give back what they do not need. */
      until: 'larger' | 'spent' | 'held'
    }

/** Pure: what of a budget is in the way of a call; null when it fits. */
export function misfitOf(spec: BudgetSpec, state: WindowState, wanted: Wanted): Misfit | null {
  const { tokens, money } = spec.limits
  if (money !== undefined && wanted.nanos === null && spec.unknownPrice !== 'allow') return { of: 'price' }
  const found = [
    ...(tokens === undefined
      ? []
      : [{ of: 'tokens' as const, limit: tokens, spent: state.tokens, held: state.heldTokens, wanted: wanted.tokens }]),
    ...(money === undefined
      ? []
      : [
          {
            of: 'money' as const,
            limit: nanosOf(money),
            spent: state.nanos,
            held: state.heldNanos,
            wanted: wanted.nanos ?? 0,
          },
        ]),
  ].filter(({ limit, spent, held, wanted: more }) => spent + held + more > limit)
  const misfits = found.map((one) => ({
    ...one,
    until:
      one.wanted > one.limit
        ? ('larger' as const)
        : one.spent + one.wanted > one.limit
          ? ('spent' as const)
          : ('held' as const),
  }))
  const worst = (['larger', 'spent', 'held'] as const).flatMap((until) => misfits.filter((m) => m.until === until))
  return worst[0] ?? null
}

/** Pure: the share that is used of the limit that is used most, what is set aside left out. A limit of nothing is used up. */
export function shareOf({ limits }: BudgetSpec, state: Pick<WindowState, 'tokens' | 'nanos'>): number {
  const part = (spent: number, limit: number): number => (limit === 0 ? 1 : spent / limit)
  return Math.max(
    limits.tokens === undefined ? 0 : part(state.tokens, limits.tokens),
    limits.money === undefined ? 0 : part(state.nanos, nanosOf(limits.money)),
  )
}

/** What may still be set aside of a window. Infinite where nothing bounds it. */
export interface Room {
  tokens: number
  nanos: number
}

/**
 * Pure: what may be set aside of a window, beginning with what is in it, before somebody has to look at it: no call is refused and none of the shares
 * `ahead` is reached as long as calls take no more than is set aside for them.
 */
export function roomIn({ limits }: BudgetSpec, state: WindowState, ahead: readonly number[]): Room {
  const below = (limit: number): number => Math.min(limit, ...ahead.map((share) => lastBelow(share, limit)))
  return {
    tokens: limits.tokens === undefined ? Infinity : below(limits.tokens) - state.tokens - state.heldTokens,
    nanos: limits.money === undefined ? Infinity : below(nanosOf(limits.money)) - state.nanos - state.heldNanos,
  }
}

/** The most of a limit that is less than a share of it, as `shareOf` divides: a product that was rounded may be one off. */
function lastBelow(share: number, limit: number): number {
  const about = Math.ceil(share * limit)
  return [about, about - 1, about - 2].find((most) => most / limit < share) ?? 0
}

/** Pure: the room that is left when a call is set aside; null when it does not fit. */
export function roomAfter(spec: BudgetSpec, room: Room, wanted: Wanted): Room | null {
  if (spec.limits.money !== undefined && wanted.nanos === null && spec.unknownPrice !== 'allow') return null
  const left = { tokens: room.tokens - wanted.tokens, nanos: room.nanos - (wanted.nanos ?? 0) }
  return left.tokens < 0 || left.nanos < 0 ? null : left
}
