import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { calendarSpan, type CalendarWindow, freedAt, isTimeZone, ROLLING_MS } from './windows.ts'

const HOUR_MS = 3_600_000
const iso = ({ from, until }: { from: number; until: number }): string[] =>
  [from, until].map((at) => new Date(at).toISOString().replace('.000Z', 'Z'))
const spanAt = (window: CalendarWindow, zone: string, at: string): string[] =>
  iso(calendarSpan(window, zone, Date.parse(at)))

describe('days, weeks and months', () => {
  test('begin at midnight of their zone, weeks on Monday', () => {
    expect(spanAt('day', 'UTC', '2026-03-01T00:00:00Z')).toEqual(['2026-03-01T00:00:00Z', '2026-03-02T00:00:00Z'])
    expect(spanAt('day', 'UTC', '2026-02-28T23:59:59.999Z')).toEqual(['2026-02-28T00:00:00Z', '2026-03-01T00:00:00Z'])
    expect(spanAt('week', 'UTC', '2026-11-29T12:00:00Z')).toEqual(['2026-11-23T00:00:00Z', '2026-11-30T00:00:00Z'])
    expect(spanAt('month', 'America/New_York', '2026-02-01T04:59:00Z')).toEqual([
      '2026-01-01T05:00:00Z',
      '2026-02-01T05:00:00Z',
    ])
    expect(spanAt('day', 'Asia/Kathmandu', '2026-01-01T18:15:00Z')).toEqual([
      '2026-01-01T18:15:00Z',
      '2026-01-02T18:15:00Z',
    ])
  })

  test('have 23 and 25 hours where clocks are changed', () => {
    expect(spanAt('day', 'Europe/Berlin', '2026-03-29T12:00:00Z')).toEqual([
      '2026-03-28T23:00:00Z',
      '2026-03-29T22:00:00Z',
    ])
    expect(spanAt('day', 'Europe/Berlin', '2026-10-25T12:00:00Z')).toEqual([
      '2026-10-24T22:00:00Z',
      '2026-10-25T23:00:00Z',
    ])
    expect(spanAt('month', 'Europe/Berlin', '2026-03-15T12:00:00Z')).toEqual([
      '2026-02-28T23:00:00Z',
      '2026-03-31T22:00:00Z',
    ])
  })

  test('begin at one where there is no midnight, and a day that a zone left out has no moment', () => {
    // Cairo set its clocks from 00:00 to 01:00 on 2024-04-26.
    expect(spanAt('day', 'Africa/Cairo', '2024-04-26T12:00:00Z')[0]).toBe('2024-04-25T22:00:00Z')
    // Samoa went from the 29th of December 2011 to the 31st.
    expect(spanAt('day', 'Pacific/Apia', '2011-12-30T12:00:00Z')).toEqual([
      '2011-12-30T10:00:00Z',
      '2011-12-31T10:00:00Z',
    ])
  })
})

test('whatever the zone and the moment: it is in its span, and spans follow each other', () => {
  const zones = [
    'UTC',
    'Europe/Berlin',
    'America/New_York',
    'America/St_Johns',
    'Asia/Beirut',
    'Africa/Cairo',
    'Pacific/Apia',
    'Pacific/Kiritimati',
    'Australia/Lord_Howe',
    'America/Havana',
    'America/Sao_Paulo',
    'Asia/Tehran',
  ]
  const moment = fc.integer({ min: Date.UTC(2006, 0, 1), max: Date.UTC(2032, 0, 1) })
  const window = fc.constantFrom<CalendarWindow>('day', 'week', 'month')
  const hours = { day: [22, 26], week: [143, 170], month: [27 * 24, 31 * 24 + 2] } as const
  fc.assert(
    fc.property(window, fc.constantFrom(...zones), moment, (kind, zone, now) => {
      const span = calendarSpan(kind, zone, now)
      expect(span.from <= now && now < span.until).toBe(true)
      // The edges are in the span that they belong to, and nothing lies between two spans.
      expect(calendarSpan(kind, zone, span.from)).toEqual(span)
      expect(calendarSpan(kind, zone, span.until - 1)).toEqual(span)
      expect(calendarSpan(kind, zone, span.until).from).toBe(span.until)
      expect(calendarSpan(kind, zone, span.from - 1).until).toBe(span.from)
      const length = (span.until - span.from) / HOUR_MS
      expect(length).toBeGreaterThanOrEqual(hours[kind][0])
      expect(length).toBeLessThanOrEqual(hours[kind][1])
    }),
    { numRuns: 400 },
  )
})

test('a rolling window is free again when enough of what was spent first has left it', () => {
  const spent = [
    { at: 100, amount: 5 },
    { at: 200, amount: 5 },
    { at: 300, amount: 5 },
  ]
  expect(freedAt(spent, 1)).toBe(100 + ROLLING_MS)
  expect(freedAt(spent, 5)).toBe(100 + ROLLING_MS)
  expect(freedAt(spent, 6)).toBe(200 + ROLLING_MS)
  expect(freedAt(spent, 15)).toBe(300 + ROLLING_MS)
  expect(freedAt(spent, 16)).toBeNull()
})

test('a zone is one that is known', () => {
  expect(isTimeZone('Europe/Berlin')).toBe(true)
  expect(isTimeZone('Europe/Nowhere')).toBe(false)
})
