import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const HERE = import.meta.dirname

/** Both drivers prepare a statement under its name once a connection: of two texts under one name the second is never run. */
test('every name of a statement stands for one text', () => {
  const files = readdirSync(HERE, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !/\.(test|suite)\.ts$/.test(path),
  )
  const places = files.flatMap((path) =>
    [...readFileSync(join(HERE, path), 'utf8').matchAll(/\bname: '([a-z0-9]+(?:_[a-z0-9]+)+)'/g)].map(([, name]) => ({
      name,
      path,
    })),
  )
  expect(places.length).toBeGreaterThan(100)
  const twice = Map.groupBy(places, ({ name }) => name)
  expect([...twice.values()].filter((found) => found.length > 1)).toEqual([])
})
