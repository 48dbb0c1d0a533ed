import { expect, test } from 'vitest'
import { type Access, isEnough, ROLES } from './roles.ts'

test('each role may do what the lesser ones may, and a worker nothing of theirs', () => {
  const may = (needed: Access) => ROLES.filter((role) => isEnough(role, needed))
  expect(may('none')).toEqual([...ROLES])
  expect(may('any')).toEqual([...ROLES])
  expect(may('viewer')).toEqual(['viewer', 'operator', 'admin'])
  expect(may('operator')).toEqual(['operator', 'admin'])
  expect(may('admin')).toEqual(['admin'])
  expect(may('worker')).toEqual(['worker'])
})
