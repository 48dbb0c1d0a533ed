import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import type { ArtifactRule } from '../domain/workflow.ts'
import { CollectProblem, collectFiles } from './collect-files.ts'

let root = ''
let workspace = ''
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'orrery-files-'))
  workspace = join(root, 'workspace')
  for (const [name, text] of Object.entries({
    'a.txt': 'a',
    'dist/b.js': 'bb',
    'dist/deep/c.js': 'ccc',
    '.hidden': 'h',
  })) {
    await mkdir(join(workspace, name, '..'), { recursive: true })
    await writeFile(join(workspace, name), text)
  }
  await writeFile(join(root, 'outside.txt'), 'outside')
})
afterEach(() => rm(root, { recursive: true, force: true }))

const rule = (path: string, more: Partial<ArtifactRule> = {}): ArtifactRule => ({
  path,
  retentionMs: 1_000,
  always: false,
  optional: false,
  ...more,
})
const collect = (rules: ArtifactRule[], failed = false) => collectFiles(workspace, rules, { what: 'step a', failed })
const namesOf = async (rules: ArtifactRule[], failed = false) => (await collect(rules, failed)).map((f) => f.name)
const codeOf = (collecting: Promise<unknown>) =>
  collecting.then(
    () => null,
    (error: unknown) => (error instanceof CollectProblem ? error.failure : error),
  )

describe('files that a step leaves', () => {
  test('are found by pattern, with size and checksum, in order', async () => {
    const [file] = await collect([rule('a.txt', { retentionMs: 7 })])
    expect(file).toEqual({
      name: 'a.txt',
      file: expect.stringContaining('a.txt') as string,
      bytes: 1,
      sha256: createHash('sha256').update('a').digest('hex'),
      retentionMs: 7,
    })
    expect(await namesOf([rule('dist/**')])).toEqual(['dist/b.js', 'dist/deep/c.js'])
    expect(await namesOf([rule('**/*.js'), rule('a.txt')])).toEqual(['a.txt', 'dist/b.js', 'dist/deep/c.js'])
  })

  test('one that two rules name is kept as the first one says', async () => {
    const files = await collect([rule('dist/b.js', { retentionMs: 1 }), rule('dist/**', { retentionMs: 2 })])
    expect(files.map((f) => [f.name, f.retentionMs])).toEqual([
      ['dist/b.js', 1],
      ['dist/deep/c.js', 2],
    ])
  })

  test('nothing outside is reached: by a link to a file, by a link to a folder, by a pattern', async () => {
    await symlink(join(root, 'outside.txt'), join(workspace, 'link.txt'))
    await symlink(root, join(workspace, 'up'))
    expect(await namesOf([rule('link.txt', { optional: true })])).toEqual([])
    expect(await namesOf([rule('up/outside.txt', { optional: true })])).toEqual([])
    expect(await namesOf([rule('../*.txt', { optional: true })])).toEqual([])
    expect(await namesOf([rule('**/*.txt')])).toEqual(['a.txt'])
  })

  test('a pattern that fits nothing is a failure that names it, unless it is optional', async () => {
    expect(await codeOf(collect([rule('none/*')]))).toMatchObject({
      code: 'artifact.none_found',
      evidence: { pattern: 'none/*' },
    })
    expect(await namesOf([rule('none/*', { optional: true })])).toEqual([])
  })

  test('of a step that failed only what was asked for always, and a pattern without files is no second failure', async () => {
    expect(
      await namesOf([rule('a.txt'), rule('dist/b.js', { always: true }), rule('x', { always: true })], true),
    ).toEqual(['dist/b.js'])
  })

  test('too large a file is refused with its size before it is read', async () => {
    await truncate(join(workspace, 'a.txt'), LIMITS.artifactBytes + 1)
    expect(await codeOf(collect([rule('a.txt')]))).toMatchObject({
      code: 'artifact.too_large',
      evidence: { bytes: LIMITS.artifactBytes + 1, limit: LIMITS.artifactBytes },
    })
  })

  test('too many files are refused', async () => {
    await Promise.all(
      Array.from({ length: LIMITS.artifactsPerStepMax + 1 }, (_, i) => writeFile(join(workspace, `n${i}.log`), '')),
    )
    expect(await codeOf(collect([rule('*.log')]))).toMatchObject({ code: 'artifact.too_many' })
  })

  test('a name that cannot be kept is refused, not changed', async () => {
    await writeFile(join(workspace, 'a\\b'), '')
    expect(await codeOf(collect([rule('a*b')]))).toMatchObject({ code: 'artifact.unreadable' })
  })
})
