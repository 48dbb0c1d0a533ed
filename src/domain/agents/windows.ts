/** For how long what was spent counts: a run and all runs below it, the last 24 hours at any moment, or what the calendar calls a day, a week, a month. */
export const WINDOWS = ['run', '24h', 'day', 'week', 'month'] as const
export type WindowKind = (typeof WINDOWS)[number]
export type CalendarWindow = 'day' | 'week' | 'month'

export const isCalendarWindow = (window: WindowKind): window is CalendarWindow => window !== 'run' && window !== '24h'

export const ROLLING_MS = 24 * 3_600_000

const DAY_MS = 24 * 3_600_000
/** No zone is further from UTC than 14 hours; the rest is for the hours that a change of the clock takes or gives. */
const ZONE_MAX_MS = 18 * 3_600_000
/** 1970-01-01 was a Thursday: weeks begin on Mondays. */
const MONDAY_OFFSET = 3

/** Milliseconds since 1970; `until` is the first moment that is outside. */
export interface CalendarSpan {
  from: number
  until: number
}

/**
 * The day, week (from Monday) or month of a time zone that a moment is in. Spans follow each other without a gap, so that every moment is in exactly one,
 * also where clocks are changed: a day may have 23 or 25 hours, one that a zone left out has none.
 */
export function calendarSpan(window: CalendarWindow, timeZone: string, now: number): CalendarSpan {
  const zone = zoneOf(timeZone)
  let first = firstDayOf(window, zone.dayOf(now))
  // A clock that is set back over midnight shows the former date once more: by then the new span has begun.
  while (zone.startOf(first) > now) first = firstDayOf(window, first - 1)
  for (let next = nextOf(window, first); zone.startOf(next) <= now; next = nextOf(window, first)) first = next
  return { from: zone.startOf(first), until: zone.startOf(nextOf(window, first)) }
}

/** Days since 1970 of the first day of the window that has this day. */
function firstDayOf(window: CalendarWindow, day: number): number {
  if (window === 'day') return day
  if (window === 'week') return day - mod(day + MONDAY_OFFSET, 7)
  const date = new Date(day * DAY_MS)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / DAY_MS
}

function nextOf(window: CalendarWindow, first: number): number {
  if (window === 'day') return first + 1
  if (window === 'week') return first + 7
  const date = new Date(first * DAY_MS)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1) / DAY_MS
}

const mod = (n: number, by: number): number => ((n % by) + by) % by

interface Zone {
  /** The date that clocks of the zone show, in days since 1970. */
  dayOf(at: number): number
  /** The first moment of a date. */
  startOf(day: number): number
}

const zones = new Map<string, Zone>()

function zoneOf(timeZone: string): Zone {
  const known = zones.get(timeZone)
  if (known) return known
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
  })
  const dayOf = (at: number): number => {
    const parts = { year: 0, month: 0, day: 0 }
    for (const { type, value } of format.formatToParts(at))
      if (type === 'year' || type === 'month' || type === 'day') parts[type] = Number(value)
    return Date.UTC(parts.year, parts.month - 1, parts.day) / DAY_MS
  }
  const zone: Zone = {
    dayOf,
    startOf(day) {
      let before = day * DAY_MS - ZONE_MAX_MS
      let after = day * DAY_MS + ZONE_MAX_MS
      while (after - before > 1) {
        const middle = Math.floor((before + after) / 2)
        if (dayOf(middle) >= day) after = middle
        else before = middle
      }
      return after
    },
  }
  zones.set(timeZone, zone)
  return zone
}

/** Whether there is such a zone. */
export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}

/** Pure: when so much of what is in a rolling window has left it, by the moments at which it was spent, the oldest first. Null: it never suffices. */
export function freedAt(spent: readonly { at: number; amount: number }[], needed: number): number | null {
  let freed = 0
  for (const { at, amount } of spent) {
    freed += amount
    if (freed >= needed) return at + ROLLING_MS
  }
  return null
}
