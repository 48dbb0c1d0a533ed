import { describe, expect, test } from 'vitest'
import { covers, isWithin, organisationOf, overlaps, reachOf, shownNamespace, storedNamespace } from './tenancy.ts'

describe('namespaces of organisations', () => {
  test('are plain in the default organisation and carry its name in every other one', () => {
    expect(storedNamespace('default', 'team')).toBe('team')
    expect(storedNamespace('*', 'team')).toBe('team')
    expect(storedNamespace('acme', 'team')).toBe('acme/team')
    expect(organisationOf('team')).toBe('default')
    expect(organisationOf('acme/team')).toBe('acme')
  })

  test('read to their own people as they named them', () => {
    expect(shownNamespace('acme', 'acme/team')).toBe('team')
    expect(shownNamespace('default', 'team')).toBe('team')
    expect(shownNamespace('*', 'acme/team')).toBe('acme/team')
  })
})

describe('a reach', () => {
  const everything = reachOf('*', null)
  const acme = reachOf('acme', null)
  const home = reachOf('default', null)
  const team = reachOf('acme', ['team'])

  test('of everything, of an organisation, of some namespaces', () => {
    expect([everything, acme, home, team]).toEqual([null, ['acme/*'], ['default/*'], ['acme/team']])
  })

  test.for([
    [everything, 'acme/team', true],
    [acme, 'acme/team', true],
    [acme, 'team', false],
    [acme, 'acme-2/team', false],
    [home, 'team', true],
    [home, 'acme/team', false],
    [team, 'acme/team', true],
    [team, 'acme/other', false],
    [team, 'team', false],
    [[], 'team', false],
  ] as const)('%j sees %s: %s', ([reach, namespace, sees]) => {
    expect(isWithin(reach, namespace)).toBe(sees)
  })

  test('covers another that is no wider', () => {
    expect(covers(everything, acme)).toBe(true)
    expect(covers(acme, team)).toBe(true)
    expect(covers(acme, acme)).toBe(true)
    expect(covers(team, acme)).toBe(false)
    expect(covers(acme, everything)).toBe(false)
    expect(covers(home, team)).toBe(false)
  })

  test('overlaps another when one covers a part of it', () => {
    expect(overlaps(everything, team)).toBe(true)
    expect(overlaps(team, acme)).toBe(true)
    expect(overlaps(home, acme)).toBe(false)
    expect(overlaps(team, reachOf('acme', ['other']))).toBe(false)
  })
})
