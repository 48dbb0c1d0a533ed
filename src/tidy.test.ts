import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, sep } from 'node:path'
import { describe, expect, test } from 'vitest'
import * as tidy from '../test/support/tidy-rules.ts'
import { FAILURES } from './domain/failures.ts'

/** When true, a failure code that nothing raises, or that no test names, fails this test; until then it is printed. */
const EVERY_CODE_IS_USED = true

const ROOT = join(import.meta.dirname, '..')
const SHOWN = 10

/** What is, or would be, tracked: git's own answer, or the folders themselves where there is no repository. */
function trackedPaths(): string[] {
  const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  const paths =
    listed.status === 0
      ? listed.stdout.split('\0')
      : readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
          .map((path) => path.split(sep).join('/'))
          .filter((path) => !/^(node_modules|dist|\.cache|\.git|coverage)(\/|$)/.test(path))
  return paths.filter((path) => path !== '' && existsSync(join(ROOT, path)) && statSync(join(ROOT, path)).isFile())
}

const read = (path: string): tidy.SourceFile => ({ path, text: readFileSync(join(ROOT, path), 'utf8') })

const tracked = trackedPaths()
const code = tracked.filter((path) => path.endsWith('.ts')).map(read)
const sources = code.filter(({ path }) => path.startsWith('src/') && !/\.(test|suite)\.ts$|\/testing\//.test(path))

/** The checker holds the patterns it looks for and its tests hold the plants, so neither is read as code of the house. */
const isChecked = ({ path }: tidy.SourceFile): boolean =>
  path !== 'src/tidy.test.ts' && path !== 'test/support/tidy-rules.ts'

describe('the house is tidy', () => {
  test('every file keeps the rules', () => {
    expect(code.filter(isChecked).flatMap((file) => tidy.RULES.flatMap((rule) => rule(file)))).toEqual([])
  })

  test('every folder has a front door', () => {
    expect(tidy.missingFrontDoors(tracked)).toEqual([])
  })

  test('no file is part of a circle of imports', () => {
    expect(tidy.importCycles(sources)).toEqual([])
  })

  test('tracked files name no machine and no registry', () => {
    const texts = tracked.filter((path) => !/\.(png|ico|woff2?|wasm|tar|gz|bin)$/.test(path)).map(read)
    expect(texts.filter(isChecked).flatMap(tidy.noForeignPlaces)).toEqual([])
  })

  test('the changelog opens with what is pending', () => {
    expect(
      tracked.filter((path) => path === 'CHANGELOG.md').flatMap((path) => tidy.changelogOpensWithPending(read(path))),
    ).toEqual([])
  })

  test('the largest files and functions are shown, so that growth is seen', () => {
    const files = sources.map(({ path, text }) => ({ name: path, lines: text.split('\n').length }))
    const functions = sources.flatMap(tidy.functionsOf)
    const largest = (list: tidy.Extent[]) =>
      list
        .sort((a, b) => b.lines - a.lines)
        .slice(0, SHOWN)
        .map(({ name, lines }) => `  ${String(lines).padStart(5)}  ${name}`)
        .join('\n')
    process.stdout.write(`Largest files:\n${largest(files)}\nLargest functions:\n${largest(functions)}\n`)
    expect(files.length).toBeGreaterThan(0)
  })

  test('every failure code is raised by the product and named by a test', () => {
    const isTest = (path: string) => path.endsWith('.test.ts') || path.endsWith('.suite.ts') || path.startsWith('test/')
    const product = sources.filter(({ path }) => path !== 'src/domain/failures.ts').map(({ text }) => text)
    const tests = code.filter(({ path }) => isTest(path) && path !== 'src/tidy.test.ts').map(({ text }) => text)
    const isNamed = (texts: string[], word: string) =>
      texts.some((text) => text.includes(`'${word}'`) || text.includes(`"${word}"`) || text.includes(`\`${word}\``))
    const never = Object.keys(FAILURES).filter((word) => !isNamed(product, word))
    const untested = Object.keys(FAILURES).filter(
      (word) => !never.includes(word) && !tests.some((text) => text.includes(word)),
    )
    if (EVERY_CODE_IS_USED) return expect({ never, untested }).toEqual({ never: [], untested: [] })
    const show = (what: string, words: string[]) =>
      words.length > 0 ? `${what} (${words.length}): ${words.join(', ')}\n` : ''
    process.stdout.write(
      show('Failure codes that nothing raises', never) + show('Failure codes that no test names', untested),
    )
  })
})

describe('each rule bites', () => {
  const plant = (path: string, text: string): tidy.SourceFile => ({ path, text })

  test.for<[what: string, rule: tidy.Rule, path: string, text: string, complaint: string]>([
    [
      'an import up the ranks',
      tidy.ranks,
      'src/store/a.ts',
      `import { b } from '../engine/b.ts'`,
      'store may not import engine',
    ],
    [
      'an import between equals',
      tidy.ranks,
      'src/store/a.ts',
      `import type { b } from '../contract/b.ts'`,
      'store may not import contract',
    ],
    [
      'an import over lines',
      tidy.ranks,
      'src/base/a.ts',
      `import {\n  b,\n  c,\n} from '../domain/b.ts'`,
      'base may not import domain',
    ],
    [
      'a re-export up the ranks',
      tidy.ranks,
      'src/sdk/index.ts',
      `export { b } from '../client/index.ts'`,
      'sdk may not import client',
    ],
    [
      'a dynamic import',
      tidy.ranks,
      'src/engine/a.ts',
      `const b = await import('../api/b.ts')`,
      'engine may not import api',
    ],
    [
      'a reach through the wire',
      tidy.ranks,
      'src/worker/a.ts',
      `import { b } from '../store/b.ts'`,
      'worker must ask store over the contract',
    ],
    ['a folder without a rank', tidy.ranks, 'src/extra/a.ts', '', 'src/extra/ has no rank'],
    [
      'an import from outside src',
      tidy.ranks,
      'src/engine/a.ts',
      `import { b } from '../../test/b.ts'`,
      'lies outside',
    ],
    ['Date.now', tidy.bans, 'src/engine/a.ts', 'const t = Date.now()', 'src/engine/a.ts:1: reads the clock'],
    ['a bare new Date', tidy.bans, 'src/engine/a.ts', '\nconst t = new Date()', 'src/engine/a.ts:2: reads the clock'],
    ['performance.now', tidy.bans, 'src/api/a.ts', 'const t = performance.now()', 'measures with the clock'],
    ['Math.random', tidy.bans, 'src/engine/a.ts', 'const r = Math.random()', 'throws dice'],
    ['randomUUID', tidy.bans, 'src/api/a.ts', `import { randomUUID } from 'node:crypto'`, 'makes ids'],
    ['setTimeout', tidy.bans, 'src/worker/a.ts', 'setTimeout(() => {}, 5)', 'sets a timer'],
    ['setImmediate', tidy.bans, 'src/worker/a.ts', 'setImmediate(next)', 'sets a timer'],
    [
      'timers/promises',
      tidy.bans,
      'src/worker/a.ts',
      `import { setTimeout as nap } from 'node:timers/promises'`,
      'sets a timer',
    ],
    ['the environment', tidy.bans, 'src/cli/a.ts', `const a = process.env['A']`, 'reads the environment'],
    ['the console', tidy.bans, 'src/engine/a.ts', 'console.log(1)', 'writes to the console'],
    ['code inside a template', tidy.bans, 'src/engine/a.ts', 'const t = `at ${Date.now()}`', 'reads the clock'],
    [
      'code after a pattern',
      tidy.bans,
      'src/engine/a.ts',
      'const p = /[\'"]/\nDate.now()',
      'src/engine/a.ts:2: reads the clock',
    ],
    ['a parameter of any', tidy.bans, 'test/sim/a.test.ts', 'const f = (a: any) => a', 'says any'],
    ['a cast to any', tidy.bans, 'scripts/a.ts', 'f(a as any)', 'says any'],
    ['an enum', tidy.bans, 'src/domain/a.ts', 'export const enum Colour { Red }', 'declares an enum'],
    ['a silenced compiler', tidy.bans, 'src/domain/a.ts', '// @ts-ignore', 'silences the compiler'],
    ['an unfinished line', tidy.unfinished, 'src/domain/a.ts', '// TODO later', 'src/domain/a.ts:1: is unfinished'],
    [
      'one test alone',
      tidy.noLostTests,
      'src/domain/a.test.ts',
      `test.only('a', () => {})`,
      '.only keeps tests from running',
    ],
    [
      'a skipped suite',
      tidy.noLostTests,
      'test/sim/a.test.ts',
      `describe.skip('a', () => {})`,
      '.skip keeps tests from running',
    ],
    ['a drawer of things', tidy.namedForOneThing, 'src/store/utils.ts', '', 'name the file for the one thing in it'],
    [
      'a drawer of tests',
      tidy.namedForOneThing,
      'src/store/helpers.test.ts',
      '',
      'name the file for the one thing in it',
    ],
    ['an open front door', tidy.plainFrontDoor, 'src/store/index.ts', `export * from './a.ts'`, 'export by name'],
    [
      'an import of a test',
      tidy.noImportOfTests,
      'src/store/a.ts',
      `import { b } from './b.test.ts'`,
      'imports the test',
    ],
    [
      'a path of one machine',
      tidy.noForeignPlaces,
      'docs/a.md',
      // Put together, so that this file does not name one itself.
      `see ${['', 'work', 'main', 'docs'].join('/')}`,
      'names a path of one machine',
    ],
    ['a path of one person', tidy.noForeignPlaces, 'docs/a.md', 'cd /home/ann/src', "one person's machine"],
    [
      'a registry',
      tidy.noForeignPlaces,
      '.npmrc',
      'registry=https://registry.npmjs.org/',
      'the host of a package registry',
    ],
    [
      'a changelog that opens with a version',
      tidy.changelogOpensWithPending,
      'CHANGELOG.md',
      '# Changelog\n\n## 0.1.0\n',
      'its first section is Pending',
    ],
  ])('%s is found', ([, rule, path, text, complaint]) => {
    expect(rule(plant(path, text)).join('\n')).toContain(complaint)
  })

  test.for<[what: string, rule: tidy.Rule, path: string, text: string]>([
    ['base reads the clock', tidy.bans, 'src/base/clock.ts', 'const t = Date.now()'],
    ['a date of something', tidy.bans, 'src/engine/a.ts', 'const t = new Date(row.at)'],
    ['a comment about Date.now()', tidy.bans, 'src/engine/a.ts', '// never Date.now()\n/* nor Math.random() */'],
    [
      'a text about Date.now()',
      tidy.bans,
      'src/engine/a.ts',
      "const advice = 'Date.now() is banned'\nconst b = `nor setTimeout(`",
    ],
    ['app reads the environment', tidy.bans, 'src/app/config.ts', `const a = process.env['A']`],
    ['a program of its own sets a timer', tidy.bans, 'src/worker/heartbeat-thread.ts', 'setInterval(beat, 1000)'],
    ['a word that begins with any', tidy.bans, 'src/engine/a.ts', 'const f = (a: anything) => a'],
    ['an import down the ranks', tidy.ranks, 'src/engine/a.ts', `import { b } from '../store/b.ts'`],
    ['a test that stands on what is above it', tidy.ranks, 'src/store/a.test.ts', `import { b } from '../engine/b.ts'`],
    ['a test that says what it needs', tidy.noLostTests, 'test/a.test.ts', 'describe.skipIf(!dsn)(name, () => {})'],
    ['a name that ends like a drawer', tidy.namedForOneThing, 'src/contract/api-types.ts', ''],
    [
      'a changelog that opens with Pending',
      tidy.changelogOpensWithPending,
      'CHANGELOG.md',
      '# Changelog\n\n## Pending\n\n## 0.1.0\n',
    ],
  ])('%s is let through', ([, rule, path, text]) => {
    expect(rule(plant(path, text))).toEqual([])
  })

  test('a folder without a front door is named', () => {
    expect(tidy.missingFrontDoors(['src/base/a.ts', 'src/base/index.ts', 'src/store/runs/a.ts'])).toEqual([
      'src/store/ has no index.ts',
    ])
  })

  test('a circle of imports is shown, unless only types go round', () => {
    const a = plant('src/base/a.ts', `import { b } from './b.ts'`)
    expect(tidy.importCycles([a, plant('src/base/b.ts', `import { a } from './a.ts'`)])).toEqual([
      'src/base/a.ts → src/base/b.ts → src/base/a.ts',
    ])
    expect(tidy.importCycles([a, plant('src/base/b.ts', `import type { a } from './a.ts'`)])).toEqual([])
  })

  test('functions are measured by their brackets', () => {
    const text = ['export function long(', '  a: string,', '): void {', '  if (a) {', "    f('}')", '  }', '}'].join(
      '\n',
    )
    expect(tidy.functionsOf(plant('a.ts', text)).map((f) => f.lines)).toEqual([5])
  })
})
