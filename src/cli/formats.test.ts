import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import type { CliHarness } from './testing/cli-harness.ts'
import { demoWorld, everyCommand, type Leaf, WORDS } from './testing/every-command.ts'
import { isFormatOption } from './program/options.ts'

/** Commands without -o for a format, with the reason. */
const WITHOUT: Record<string, string> = {
  completion: 'prints a script',
  'mcp serve': 'speaks the protocol on its standard output',
  help: 'prints a page of the manual',
  'runs skip': '--output is the output of the step',
  'artifacts get': '-o names the file',
}
/** What differs from one call to the next. */
const RANDOM = ['secret generate-key']

let logs: string
beforeAll(() => {
  logs = mkdtempSync(path.join(tmpdir(), 'orrery-formats-'))
  writeFileSync(path.join(logs, 'server.log'), '{"level":"info","time":"2026-01-02T12:00:00.000Z","msg":"up"}\n')
})
afterAll(() => rmSync(logs, { recursive: true }))

const formatsOf = ({ command }: Leaf): readonly string[] => command.options.find(isFormatOption)?.argChoices ?? []

async function run({ path: words }: Leaf, ...more: string[]): Promise<CliHarness & { exit: number }> {
  const cli = demoWorld()
  const given = words === 'logs' ? ['--log-dir', logs] : (WORDS[words] ?? [])
  const exit = await cli.run(...words.split(' '), ...given, ...more)
  return Object.assign(cli, { exit })
}

const documents = (text: string): unknown[] =>
  parseAllDocuments(text).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS() as unknown
  })

describe.for(everyCommand().map((leaf) => [leaf.path, leaf] as const))('orrery %s', ([words, leaf]) => {
  const formats = formatsOf(leaf)
  if (formats.length === 0) {
    test('has a reason to print in one way alone', () => {
      expect(Object.keys(WITHOUT)).toContain(words)
    })
    return
  }

  test('prints text, and nothing less when wide', async () => {
    const table = await run(leaf)
    expect(table.err).not.toContain('✗')
    expect(table.out).not.toBe('')
    const wide = await run(leaf, '-o', 'wide')
    expect(wide.exit).toBe(table.exit)
    const head = (cli: CliHarness): number => cli.out.split('\n')[0]?.length ?? 0
    expect(head(wide)).toBeGreaterThanOrEqual(RANDOM.includes(words) ? 1 : head(table))
  })

  test('says the same in JSON, by either flag, and in YAML', async () => {
    const json = await run(leaf, '-o', 'json')
    expect(json.err).not.toContain('✗')
    const values = json.jsonLines
    expect(values.length).toBeGreaterThan(0)
    const yaml = documents((await run(leaf, '-o', 'yaml')).out)
    if (RANDOM.includes(words)) return expect(yaml).toHaveLength(values.length)
    expect((await run(leaf, '--json')).jsonLines).toEqual(values)
    // A list of resources is one value for programs, and documents that can be applied for people.
    expect(yaml).toEqual(words === 'get' ? (values[0] as { items: unknown[] }).items : values)
  })

  test('refuses another format before anything is done, with those that it has', async () => {
    const cli = await run(leaf, '-o', 'csv')
    expect(cli).toMatchObject({ exit: 2, out: '' })
    expect(cli.err).toContain('config.value_unsupported')
    expect(cli.err).toContain(formats.join(', '))
    expect([...cli.client.calls, ...cli.connects, ...cli.ups, ...cli.workers, ...cli.embedded]).toEqual([])
    const told = await run(leaf, '--json', '-o', 'csv')
    expect(JSON.parse(told.err)).toMatchObject({ failure: { code: 'config.value_unsupported' }, exit: 2 })
  })

  if (!formats.includes('name')) return
  test('prints names alone, which other commands take', async () => {
    const { out } = await run(leaf, '-o', 'name')
    expect(out).toMatch(/^(?:[\w./-]+\n)+$/)
  })
})

test('the name of a run, a token and a resource are what other commands take', async () => {
  const names = async (...argv: string[]): Promise<string> => {
    const cli = demoWorld()
    await cli.run(...argv, '-o', 'name')
    return cli.out.trim()
  }
  const cli = demoWorld()
  expect(await cli.run('runs', 'cancel', await names('runs', 'list'))).toBe(0)
  expect(await cli.run('token', 'revoke', await names('token', 'list'))).toBe(0)
  expect(await cli.run('describe', await names('get', 'workflows'))).toBe(0)
})
