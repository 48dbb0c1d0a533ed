// What the guides show is what happens: their blocks are run in order, and what they print is compared.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { blocksOf, fits, runGuide } from '../support/guide.ts'
import { expectNoProcessLeft } from '../support/processes.ts'

const GUIDES = join(import.meta.dirname, '..', '..', 'docs', 'guides')
const files = readdirSync(GUIDES, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'))
const pages = files.filter((name) => blocksOf(readFileSync(join(GUIDES, name), 'utf8')).length > 0)

afterAll(() => expectNoProcessLeft())

describe('the blocks of a guide', () => {
  test('are read from their fences', () => {
    const page =
      'a\n```yaml file=a.yaml\nx: 1\n```\n```sh run\ncat a.yaml\n```\n```text output\nx: 1\n```\n```sh\nnot run\n```\n'
    expect(blocksOf(page)).toEqual([
      { kind: 'file', line: 2, path: 'a.yaml', text: 'x: 1\n' },
      { kind: 'run', line: 5, text: 'cat a.yaml\n', output: 'x: 1\n' },
    ])
    expect(() => blocksOf('```sh rum\n```\n')).toThrow('rum is not known')
  })

  test('print what is written, but for ids, times and what is left out', () => {
    expect(
      fits(
        'run_01k0000000000000000000dem0 ended in 1.2s\nx\ny\nz',
        'run_01k0000000000000000000dem1 ended in 30ms\n…\nz',
      ),
    ).toBe(true)
    expect(fits('a  b', 'a b')).toBe(true)
    expect(fits('a 1', 'a …')).toBe(true)
    expect(fits('a\nb', 'a')).toBe(false)
    expect(fits('a', 'a\nb')).toBe(false)
  })
})

test.each(pages)('%s does what it says', async (page) => {
  const ran = await runGuide(join(GUIDES, page))
  expect(ran.filter((r) => r.problem !== null).map((r) => `${page}:${r.line} ${r.problem}`)).toEqual([])
})
