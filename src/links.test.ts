import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'
import { anchorsOf, linksOf } from '../test/support/links.ts'

const ROOT = join(import.meta.dirname, '..')
const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '*.md'], {
  cwd: ROOT,
  encoding: 'utf8',
})
const pages = listed.stdout.split('\0').filter((path) => path !== '' && existsSync(join(ROOT, path)))
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

describe('links of the documentation', () => {
  test.skipIf(listed.status !== 0)('each leads to a file and, where it names one, to a heading', () => {
    const anchors = new Map<string, Set<string>>()
    const broken = pages.flatMap((page) =>
      linksOf(read(page)).flatMap(({ line, target }) => {
        const [file = '', anchor] = target.split('#')
        const path = file === '' ? page : normalize(join(dirname(page), decodeURIComponent(file)))
        if (path.startsWith('..') || !existsSync(join(ROOT, path))) return [`${page}:${line} ${target}: no such file`]
        if (anchor === undefined || statSync(join(ROOT, path)).isDirectory()) return []
        const there = anchors.get(path) ?? anchorsOf(read(path))
        anchors.set(path, there)
        return there.has(anchor) ? [] : [`${page}:${line} ${target}: no such heading`]
      }),
    )
    expect(broken).toEqual([])
    expect(pages.length).toBeGreaterThan(10)
  })

  test.skipIf(listed.status !== 0)('every page of docs/ can be reached from its index', () => {
    const reached = new Set<string>()
    const visit = (page: string): void => {
      if (reached.has(page) || !page.endsWith('.md') || !existsSync(join(ROOT, page))) return
      reached.add(page)
      for (const { target } of linksOf(read(page))) {
        const [file = ''] = target.split('#')
        if (file !== '') visit(normalize(join(dirname(page), file)))
      }
    }
    visit('docs/README.md')
    expect(pages.filter((page) => page.startsWith('docs/') && !reached.has(page))).toEqual([])
  })

  test('are found in prose and not in code; anchors are made as GitHub makes them', () => {
    const page = 'See [a](b.md#c) and `[x](y)`.\n```\n[not](this)\n```\n## `GET` /v1/runs?\n## Twice\n## Twice\n'
    expect(linksOf(page)).toEqual([{ line: 1, target: 'b.md#c' }])
    expect([...anchorsOf(page)]).toEqual(['get-v1runs', 'twice', 'twice-1'])
  })
})
