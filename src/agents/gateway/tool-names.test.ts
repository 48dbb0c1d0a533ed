import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ToolNames } from './tool-names.ts'

test('whatever the names, providers take them, no two are one, and each comes back', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ minLength: 1, maxLength: 80 }), { maxLength: 30 }), (names) => {
      const given = new ToolNames(names)
      const sent = [...new Set(names)].map((name) => given.sent(name))
      expect(sent.every((name) => /^[A-Za-z0-9_-]{1,64}$/.test(name))).toBe(true)
      expect(new Set(sent).size).toBe(new Set(names).size)
      for (const name of names) expect(given.ours(given.sent(name))).toBe(name)
    }),
  )
})

test('a name that needs no change keeps itself, and one that was made up stays', () => {
  const names = new ToolNames(['a.b', 'a_b'])
  expect([names.sent('a_b'), names.sent('a.b'), names.ours('made_up')]).toEqual(['a_b', 'a_b_2', 'made_up'])
})
