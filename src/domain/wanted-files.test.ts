import { describe, expect, test } from 'vitest'
import { LIMITS } from './limits.ts'
import { type FileWant, isPathBelow, type LeftFile, WantedFiles } from './wanted-files.ts'

const want = (path: string, more: Partial<FileWant> = {}): FileWant => ({
  from: 0,
  path,
  to: '',
  optional: false,
  ...more,
})
const left = (name: string, more: Partial<LeftFile> = {}): LeftFile => ({
  node: 0,
  index: null,
  name,
  bytes: 1,
  sha256: `sum of ${name}`,
  ...more,
})
const filesWanted = (wants: FileWant[], files: LeftFile[]) => {
  const wanted = new WantedFiles(wants)
  for (const file of files) wanted.add(file)
  return wanted.files
}
const places = (wants: FileWant[], files: LeftFile[]) =>
  filesWanted(wants, files).map(({ want: i, at }) => `${i} ${at}`)

describe('the files that a step wants', () => {
  const files = [left('dist/app'), left('dist/lib/a.js'), left('notes.txt'), left('dist/app', { node: 1, sha256: 'x' })]

  test('are those of the step, by pattern, below the folder that it says', () => {
    expect(places([want('dist/**')], files)).toEqual(['0 dist/app', '0 dist/lib/a.js'])
    expect(places([want('**', { to: 'in' })], files)).toEqual(['0 in/dist/app', '0 in/dist/lib/a.js', '0 in/notes.txt'])
    expect(places([want('*.txt'), want('dist/*', { from: 1, to: 'other' })], files)).toEqual([
      '0 notes.txt',
      '1 other/dist/app',
    ])
    expect(places([want('nothing')], files)).toEqual([])
  })

  test('that go to one place are that of the later want', () => {
    const both = filesWanted([want('dist/app'), want('dist/app', { from: 1 })], files)
    expect(both).toEqual([{ want: 1, at: 'dist/app', bytes: 1, sha256: 'x' }])
    // Whichever step is looked at first.
    const turned = filesWanted([want('dist/app', { from: 1 }), want('dist/app')], files)
    expect(turned).toEqual([{ want: 1, at: 'dist/app', bytes: 1, sha256: 'sum of dist/app' }])
  })

  test('of a step that spread lie in a folder for each activation', () => {
    const spread = [left('out', { index: 0 }), left('out', { index: 11 })]
    expect(places([want('**', { to: 'in' })], spread)).toEqual(['0 in/0/out', '0 in/11/out'])
  })

  test('are counted no further than one too many', () => {
    const many = Array.from({ length: LIMITS.artifactsPerStepMax + 50 }, (_, i) => left(`f${i}`))
    expect(filesWanted([want('**')], many)).toHaveLength(LIMITS.artifactsPerStepMax + 1)
  })

  test.each(['/a', '../a', 'a/../b', './a', 'a//b', 'a/', '', 'a\\b', 'a\0'])(
    '%j is no path below a workspace',
    (path) => {
      expect(isPathBelow(path)).toBe(false)
    },
  )
})
