import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parseResources } from '../../src/domain/kinds/documents.ts'
import type { FunctionDefinition } from '../../src/sdk/index.ts'
import { busFactorOf } from './history.ts'
import { readEntries } from './inventory.ts'
import { languageOf } from './language.ts'
import { lockFormatOf } from './lockfiles.ts'
import { countLines } from './measure.ts'
import * as report from './report.ts'

const temporary = mkdtempSync(join(tmpdir(), 'repo-report-'))
afterAll(() => rmSync(temporary, { recursive: true, force: true }))

const logged: string[] = []
const context = {
  runId: 'run_test',
  step: 'test',
  attemptKey: 'test@1',
  tries: 0,
  traceparent: '',
  signal: new AbortController().signal,
  secrets: {},
  files: { given: [], read: () => Promise.reject(new Error('none')), put: () => Promise.reject(new Error('none')) },
  log: (line: string) => void logged.push(line),
}

/** As a worker calls it: input and output pass their schemas, and the output survives JSON. */
async function call<I, O>(definition: FunctionDefinition<I, O>, input: unknown): Promise<O> {
  const given = await definition.input?.['~standard'].validate(input)
  if (!given || given.issues) throw new Error(`input: ${JSON.stringify(given?.issues)}`)
  const output: unknown = JSON.parse(JSON.stringify(await definition.run(given.value, context)))
  const checked = await definition.output?.['~standard'].validate(output)
  if (!checked || checked.issues) throw new Error(`output: ${JSON.stringify(checked?.issues)}`)
  return checked.value
}

async function reportOn(repo: string) {
  const facts = await call(report.facts, { repo, out: mkdtempSync(join(temporary, 'out-')) })
  const files = await call(report.files, facts)
  const on = { ...facts, ...files }
  const directories = await call(report.directories, on)
  const measures = await Promise.all(
    directories.directories.map(({ path }) => call(report.measureDirectory, { ...on, directory: path })),
  )
  const { commits: _, ...ofHead } = on
  const dependencies = await call(report.dependencies, on)
  const summary = await call(report.summary, {
    facts,
    files,
    directories,
    measures,
    objects: { count: 1, size: 4, 'in-pack': 0, packs: 0, 'size-pack': 0 },
    languages: await call(report.languages, on),
    largest: await call(report.largest, on),
    duplicates: await call(report.duplicates, on),
    churn: await call(report.churn, ofHead),
    authors: await call(report.authors, ofHead),
    todos: await call(report.todos, on),
    dependencies,
    licences: await call(report.licences, { ...on, list: dependencies.list }),
  })
  const executive = { headline: 'Small & *sharp*', text: 'It is small.', concerns: ['<b>One</b> person.'] }
  const written = { summary, executive, writer: 'a script' }
  const markdown = await call(report.markdown, written)
  const html = await call(report.html, written)
  return { summary, markdown: readFileSync(markdown.path, 'utf8'), html: readFileSync(html.path, 'utf8') }
}

function newRepo(files: Record<string, string | Buffer> = {}): string {
  const repo = mkdtempSync(join(temporary, 'repo-'))
  git(repo, 'init', '--quiet', '--initial-branch=main')
  writeAll(repo, files)
  return repo
}

function writeAll(repo: string, files: Record<string, string | Buffer>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(repo, path)), { recursive: true })
    writeFileSync(join(repo, path), content)
  }
}

const git = (repo: string, ...args: string[]) =>
  execFileSync('git', ['-C', repo, ...args], { encoding: 'utf8', stdio: 'pipe' })

function commit(repo: string, options: { author?: string; at?: string } = {}): void {
  const { author = 'Ada', at = '2026-01-10T12:00:00Z' } = options
  git(repo, 'add', '--all')
  const who = ['-c', `user.name=${author}`, '-c', 'user.email=a@example.org', '-c', 'commit.gpgSign=false']
  const env = { ...process.env, GIT_COMMITTER_DATE: at, GIT_AUTHOR_DATE: at }
  execFileSync('git', ['-C', repo, ...who, 'commit', '--quiet', '--allow-empty', '--message', 'work'], { env })
}

describe('a repository', () => {
  test('is reported with its languages, directories, history, promises, copies and dependencies', async () => {
    const repo = newRepo({
      'src/a.ts': '// first\nexport const a = 1\n\n// TODO: more\n',
      'src/a.test.ts': "import './a.ts'\n",
      'docs/copy.md': 'the same words\n',
      'README.md': 'the same words\n',
      LICENSE: 'MIT License\n\nPermission is hereby granted, free of charge, to any person\n',
      'Cargo.lock': '[[package]]\nname = "serde"\nversion = "1.0.1"\nsource = "registry"\n',
    })
    commit(repo, { at: '2025-01-01T00:00:00Z' })
    writeAll(repo, { 'src/a.ts': '// first\nexport const a = 2\n\n// TODO: more\n' })
    commit(repo, { author: 'Grace', at: '2025-01-31T00:00:00Z' })

    const { summary, markdown, html } = await reportOn(repo)
    expect(summary.languages.languages.map(({ language }) => language)).toEqual(['TypeScript', 'Markdown'])
    expect(summary.measures.find(({ directory }) => directory === 'src')).toMatchObject({
      files: 2,
      lines: 5,
      blank: 1,
      comments: 2,
      testFiles: 1,
      testLines: 1,
    })
    expect(summary.churn).toMatchObject({ commits: 2, files: [{ path: 'src/a.ts', commits: 2 }, {}, {}, {}, {}, {}] })
    expect(summary.authors).toMatchObject({ authorCount: 2, busFactor: 1, commits: 2 })
    expect(summary.todos).toMatchObject({ total: 1, files: [{ path: 'src/a.ts', count: 1, oldestDays: 30 }] })
    expect(summary.duplicates).toMatchObject({ groupCount: 1, wastedBytes: 15 })
    expect(summary.dependencies).toMatchObject({ total: 1, lockFiles: [{ path: 'Cargo.lock', problem: null }] })
    expect(summary.licences).toMatchObject({ project: 'MIT', known: 0, unknown: 1 })
    for (const text of [markdown, html]) expect(text).toContain('src/a.ts')
    // What an agent wrote is text like any other, and says who wrote it.
    expect(markdown).toContain('**Small \\& \\*sharp\\***')
    expect(markdown).toContain('Written by a script.')
    expect(html).toContain(
      '<h2>Small &amp; *sharp*</h2><p>It is small.</p><ul><li>&lt;b&gt;One&lt;/b&gt; person.</li></ul>',
    )
    expect(html).toContain('Written by a script.')
    expect(html).not.toMatch(/<script|https?:/)
  })

  test('gives the same report for the same commit', async () => {
    const repo = newRepo({ 'a.txt': 'TODO\n' })
    commit(repo)
    const [first, second] = [await reportOn(repo), await reportOn(repo)]
    expect(first.markdown).toBe(second.markdown)
    expect(first.html).toBe(second.html)
  })

  test('without commits is reported from its files', async () => {
    const { summary } = await reportOn(newRepo({ 'a b.py': '# TODO\n' }))
    expect(summary).toMatchObject({
      facts: { head: null, commits: 0, branch: 'main' },
      files: { files: 1 },
      todos: { total: 1 },
    })
    expect(summary.remarks).toContain('Nothing was committed yet: what is known comes from the files alone.')
  })

  test('without anything in it is reported too', async () => {
    const { summary, html } = await reportOn(newRepo())
    expect(summary).toMatchObject({ files: { files: 0 }, measures: [], duplicates: { groups: [] } })
    expect(html).toContain('</html>')
  })

  test('is found from a directory below its top', async () => {
    const repo = newRepo({ 'a/b/c.txt': 'x' })
    const { summary } = await reportOn(join(repo, 'a', 'b'))
    expect(summary.facts.root).toBe(git(repo, 'rev-parse', '--show-toplevel').trimEnd())
  })

  test('may name files as it likes', async () => {
    const names = [
      'with space.ts',
      'line\nbreak.ts',
      'tab\there.ts',
      '<b>&"\'.ts',
      'päth/ünï✓.ts',
      '`tick`|pipe.ts',
      '-dash.ts',
    ]
    const repo = newRepo(Object.fromEntries(names.map((name) => [name, '// FIXME now\n'])))
    commit(repo)
    const { summary, markdown, html } = await reportOn(repo)
    expect(summary.files).toMatchObject({ files: names.length, unreadable: 0 })
    expect(summary.todos.files.map(({ path }) => path).sort()).toEqual([...names].sort())
    expect(summary.todos.files.every(({ oldestDays }) => oldestDays === 0)).toBe(true)
    expect(summary.churn.files.map(({ path }) => path).sort()).toEqual([...names].sort())
    expect(html).not.toContain('<b>&"')
    expect(html).toContain('&lt;b&gt;&amp;&quot;&#39;.ts')
    expect(markdown).toContain('`` `tick`\\|pipe.ts ``')
    expect(markdown).toContain('`line\\nbreak.ts`')
  })

  test('is not left through symbolic links', async () => {
    const outside = mkdtempSync(join(temporary, 'outside-'))
    writeFileSync(join(outside, 'secret.txt'), 'TODO secret\n')
    const repo = newRepo({ 'a.txt': 'x\n', 'replaced/secret.txt': 'mine\n' })
    symlinkSync(join(outside, 'secret.txt'), join(repo, 'link.txt'))
    symlinkSync(outside, join(repo, 'linked-directory'))
    commit(repo)
    rmSync(join(repo, 'replaced'), { recursive: true })
    symlinkSync(outside, join(repo, 'replaced'))
    const { summary } = await reportOn(repo)
    // The directory that became a link is listed as the link that it is; the file that git knew below it is gone.
    expect(summary.files).toMatchObject({ files: 1, symlinks: 3, unreadable: 1 })
    expect(summary.todos.total).toBe(0)
  })

  test('may hold binary, huge, empty, deleted and unreadable things', async () => {
    const repo = newRepo({
      'image.png': Buffer.from([0x89, 0, 1, 2]),
      'empty.txt': '',
      'gone.txt': 'x',
      'huge.log': 'line\n',
    })
    truncateSync(join(repo, 'huge.log'), 0)
    writeFileSync(join(repo, 'huge.log'), 'a line of a log\n'.repeat(200_000))
    writeFileSync(join(repo, 'sparse.bin'), '')
    truncateSync(join(repo, 'sparse.bin'), 64 * 1024 * 1024)
    git(repo, 'add', '--intent-to-add', '--all')
    rmSync(join(repo, 'gone.txt'))
    const { summary } = await reportOn(repo)
    expect(summary.files).toMatchObject({ files: 4, unreadable: 1 })
    expect(summary.measures).toMatchObject([{ directory: '.', lines: 200_000, binaryFiles: 2, hugeFiles: 1 }])
    expect(summary.largest.largest[0]).toEqual({ path: 'sparse.bin', bytes: 64 * 1024 * 1024 })
  })

  test('keeps its submodules to themselves', async () => {
    const inner = newRepo({ 'inner.txt': 'TODO\n' })
    commit(inner)
    const repo = newRepo({ 'a.txt': 'x\n' })
    git(repo, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', inner, 'vendor/inner')
    commit(repo)
    const { summary } = await reportOn(repo)
    expect(summary.files).toMatchObject({ submodules: 1, files: 2 })
    expect(summary.todos.total).toBe(0)
  })

  test('of thousands of files is listed in a file, not in an output', async () => {
    const repo = newRepo(
      Object.fromEntries(
        Array.from({ length: 3_000 }, (_, i) => [`d${i % 40}/${'long-name-'.repeat(8)}${i}.txt`, `${i}\n`]),
      ),
    )
    const { summary } = await reportOn(repo)
    expect(summary.files.files).toBe(3_000)
    expect(summary.directories).toMatchObject({ omitted: 16 })
    expect(JSON.stringify(summary).length).toBeLessThan(64 * 1024)
    let listed = 0
    for await (const entry of readEntries(summary.files.inventory)) if (entry.kind === 'file') listed++
    expect(listed).toBe(3_000)
  })
})

describe('what is no repository', () => {
  const out = join(temporary, 'no-report')

  test('fails with its path and what to do', async () => {
    const plain = mkdtempSync(join(temporary, 'plain-'))
    await expect(call(report.facts, { repo: plain, out })).rejects.toThrow(
      `${plain} is not a git repository. Pass another path with --input repo=PATH, or run "git init" there.`,
    )
    await expect(call(report.facts, { repo: join(plain, 'nowhere'), out })).rejects.toThrow('nowhere does not exist')
    writeFileSync(join(plain, 'file'), '')
    await expect(call(report.facts, { repo: join(plain, 'file'), out })).rejects.toThrow('is not a directory')
  })

  test('may be bare', async () => {
    const bare = mkdtempSync(join(temporary, 'bare-'))
    git(bare, 'init', '--quiet', '--bare')
    await expect(call(report.facts, { repo: bare, out })).rejects.toThrow('is a bare repository')
  })

  test('may have a git directory that is broken', async () => {
    const repo = newRepo()
    writeFileSync(join(repo, '.git', 'config'), '[broken')
    await expect(call(report.facts, { repo, out })).rejects.toThrow(`git cannot read the repository ${repo}`)
    chmodSync(join(repo, '.git', 'config'), 0o644)
  })
})

describe('lock files', () => {
  const parse = (path: string, text: string) =>
    (lockFormatOf(path)?.parse(text) ?? []).map(({ name, version }) => `${name} ${version ?? '?'}`)

  test.each([
    [
      'package-lock.json',
      JSON.stringify({
        packages: {
          '': { name: 'me' },
          'packages/own': { version: '1.0.0' },
          'node_modules/own': { link: true },
          'node_modules/@s/a': { version: '1.2.3', license: 'MIT' },
          'node_modules/@s/a/node_modules/b': { version: '2.0.0' },
        },
      }),
      ['@s/a 1.2.3', 'b 2.0.0'],
    ],
    [
      'package-lock.json',
      JSON.stringify({ dependencies: { a: { version: '1.0.0', dependencies: { b: { version: '2.0.0' } } } } }),
      ['a 1.0.0', 'b 2.0.0'],
    ],
    [
      'yarn.lock',
      '# yarn lockfile v1\n\n\n"@s/a@^1.0.0", "@s/a@^1.1.0":\n  version "1.1.1"\n  resolved "x"\n\nb@~2:\n  version "2.0.3"\n',
      ['@s/a 1.1.1', 'b 2.0.3'],
    ],
    [
      'yarn.lock',
      '__metadata:\n  version: 8\n\n"a@npm:^1.0.0":\n  version: 1.0.4\n\n"me@workspace:.":\n  version: 0.0.0-use.local\n',
      ['a 1.0.4'],
    ],
    [
      'pnpm-lock.yaml',
      "lockfileVersion: '9.0'\n\npackages:\n\n  '@s/a@1.0.0':\n    resolution: {integrity: x}\n\n  b@2.0.0(c@1.0.0):\n    engines: {}\n\nsnapshots:\n\n  b@2.0.0: {}\n",
      ['@s/a 1.0.0', 'b 2.0.0'],
    ],
    [
      'pnpm-lock.yaml',
      'lockfileVersion: 5.4\n\npackages:\n\n  /@s/a/1.0.0:\n    dev: true\n\n  /b/2.0.0_c@1.0.0:\n    dev: true\n',
      ['@s/a 1.0.0', 'b 2.0.0'],
    ],
    [
      'bun.lock',
      '{\n  "packages": {\n    "@s/a": ["@s/a@1.0.0", "", {}, "sha"],\n\n    "me": ["me@workspace:packages/me"],\n\n    "b/c": ["c@2.0.0", ""],\n  }\n}\n',
      ['@s/a 1.0.0', 'c 2.0.0'],
    ],
    [
      'Cargo.lock',
      'version = 4\n\n[[package]]\nname = "me"\nversion = "0.1.0"\n\n[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "registry+x"\n',
      ['a 1.0.0'],
    ],
    [
      'go.mod',
      'module example.org/me\n\ngo 1.22\n\nrequire github.com/a/b v1.2.3\n\nrequire (\n\tgolang.org/x/c v0.1.0 // indirect\n\t// none\n)\n',
      ['golang.org/x/c v0.1.0', 'github.com/a/b v1.2.3'],
    ],
    [
      'requirements-dev.txt',
      '# comment\n-r other.txt\nFlask==3.0.0\nrequests[socks] == 2.32.0 ; python_version > "3"\nnumpy>=1.0\n',
      ['Flask 3.0.0', 'requests 2.32.0', 'numpy ?'],
    ],
    [
      'poetry.lock',
      '[[package]]\nname = "a"\nversion = "1.0.0"\ndescription = "x"\n\n[[package]]\nname = "b"\nversion = "2.0.0"\n',
      ['a 1.0.0', 'b 2.0.0'],
    ],
    [
      'uv.lock',
      '[[package]]\nname = "me"\nversion = "0.1.0"\nsource = { virtual = "." }\n\n[[package]]\nname = "a"\nversion = "1.0.0"\n',
      ['a 1.0.0'],
    ],
    [
      'Pipfile.lock',
      JSON.stringify({ default: { a: { version: '==1.0.0' } }, develop: { b: {} } }),
      ['a 1.0.0', 'b ?'],
    ],
    [
      'composer.lock',
      JSON.stringify({ packages: [{ name: 'v/a', version: '1.0.0', license: ['MIT'] }] }),
      ['v/a 1.0.0'],
    ],
    [
      'Gemfile.lock',
      'GEM\n  remote: x\n  specs:\n    rails (7.1.0)\n      rack (>= 2)\n    rack (3.0.0)\n',
      ['rails 7.1.0', 'rack 3.0.0'],
    ],
  ])('%s names its packages (%#)', (path, text, expected) => {
    expect(parse(`some/where/${path}`, text)).toEqual(expected)
  })

  test('that are broken become a remark', async () => {
    const { summary } = await reportOn(newRepo({ 'package-lock.json': '{', 'sub/go.mod': 'require a.org/b v1.0.0\n' }))
    expect(summary.dependencies.total).toBe(1)
    expect(summary.remarks.some((remark) => remark.startsWith('package-lock.json: not read'))).toBe(true)
  })

  test('give licences, and so do installed packages', async () => {
    const packages = {
      'node_modules/a': { version: '1.0.0', license: 'GPL-3.0-only' },
      'node_modules/b': { version: '1.0.0' },
      'node_modules/c': { version: '1.0.0', license: '(MIT OR GPL-2.0)' },
      'node_modules/d': { version: '1.0.0' },
    }
    const repo = newRepo({
      '.gitignore': 'node_modules\n',
      'package-lock.json': JSON.stringify({ packages }),
      'node_modules/b/package.json': JSON.stringify({ license: 'ISC' }),
    })
    const { licences } = (await reportOn(repo)).summary
    expect(Object.fromEntries(licences.licences.map(({ licence, kind }) => [licence, kind]))).toEqual({
      'GPL-3.0-only': 'strong copyleft',
      ISC: 'permissive',
      '(MIT OR GPL-2.0)': 'permissive',
      unknown: 'unknown',
    })
    expect(licences).toMatchObject({ known: 3, unknown: 1 })
  })
})

test('lines are code, comments or blank', () => {
  const lines = '/* a\n\n b */\nconst x = 1 // not only a comment\n  // only\n'
  expect(countLines(lines, languageOf('x.ts'))).toEqual({ lines: 5, blank: 1, comments: 3 })
  expect(countLines('', null)).toEqual({ lines: 0, blank: 0, comments: 0 })
  expect(countLines('no line break', null)).toEqual({ lines: 1, blank: 0, comments: 0 })
})

test('the bus factor is the fewest people with half of the commits', () => {
  expect(busFactorOf([])).toBe(0)
  expect(busFactorOf([10, 1, 1])).toBe(1)
  expect(busFactorOf([3, 3, 3, 3])).toBe(2)
})

test('the workflows name functions that the module has, and use all of them', () => {
  const file = join(import.meta.dirname, 'workflow.yaml')
  const nodes = parseResources(readFileSync(file, 'utf8'), { file, namespace: null }).flatMap(
    ({ definition }) => definition?.nodes ?? [],
  )
  const named = nodes.flatMap((node) => (node.kind === 'function' ? node.function : []))
  expect(named.sort()).toEqual(
    Object.keys(report)
      .map((name) => `report.${name}`)
      .sort(),
  )
})
