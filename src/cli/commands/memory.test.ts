import { describe, expect, test } from 'vitest'
import { CliHarness } from '../testing/cli-harness.ts'
import { memoryEntry } from '../testing/scripted-client.ts'

const world = () => {
  const cli = new CliHarness()
  cli.client.entries = [
    memoryEntry({ text: 'likes\ntrains \u001b[31m' }),
    memoryEntry({ key: 'b', scope: 'agent/a', writtenBy: null }),
  ]
  return cli
}

describe('memory', () => {
  test('list shows entries with the beginning of their texts, and gives names to other commands', async () => {
    const cli = world()
    expect(await cli.run('memory', 'list', 'notes', 'cust', '--limit', '5', '-n', 'team')).toBe(0)
    expect(cli.out).toMatch(/SCOPE +KEY +BYTES +WRITTEN +BY +TEXT/)
    expect(cli.out).toMatch(/shared +customer\/4711 +42 .* agent\/writer +likes trains/)
    expect(cli.out).not.toContain('\u001b')
    expect(cli.client.calls).toEqual([['listMemoryEntries', 'team', 'notes', { prefix: 'cust', limit: 5 }]])
    const names = world()
    await names.run('memory', 'list', 'notes', '-o', 'name')
    expect(names.out).toBe('customer/4711\nb\n')
  })

  test('list says that there is nothing', async () => {
    const cli = new CliHarness()
    expect(await cli.run('memory', 'list', 'notes')).toBe(0)
    expect(cli.err).toContain('There is nothing in memory notes.')
  })

  test('get prints the text alone to standard output, and what is known of it beside', async () => {
    const cli = world()
    expect(await cli.run('memory', 'get', 'notes', 'customer/4711', '--agent', 'writer')).toBe(0)
    expect(cli.out).toMatch(/^likes\ntrains .*\n$/)
    expect(cli.err).toMatch(/shared, written .* ago by agent\/writer, \{"of":"support"\}/)
    expect(cli.client.calls[0]).toEqual([
      'getMemoryEntry',
      'default',
      'notes',
      { key: 'customer/4711', scope: 'agent/writer' },
    ])
  })

  test('put writes a text, a file or standard input, with facts about it', async () => {
    const cli = world()
    cli.files['/srv/t.txt'] = 'from a file'
    expect(
      await cli.run('memory', 'put', 'notes', 'k', '@t.txt', '--meta', 'a=b', '--meta', 'c=d=e', '--run', 'run_1'),
    ).toBe(0)
    expect(cli.out).toBe('k is written\n')
    expect(cli.client.calls).toEqual([
      [
        'putMemoryEntry',
        'default',
        'notes',
        { key: 'k', scope: 'run/run_1' },
        { text: 'from a file', metadata: { a: 'b', c: 'd=e' } },
      ],
    ])
  })

  test('search shows the best first with their scores, and what one should know', async () => {
    const cli = world()
    cli.client.memoryWarnings = ['searched by words']
    const flags = ['--limit', '3', '--by', 'keyword', '--min-score', '0.2']
    expect(await cli.run('memory', 'search', 'notes', 'trains', ...flags)).toBe(0)
    expect(cli.out).toMatch(/^0\.50 {2}customer\/4711\n {6}likes trains/)
    expect(cli.err).toContain('searched by words')
    expect(cli.client.calls[0]).toEqual([
      'searchMemory',
      'default',
      'notes',
      { query: 'trains', limit: 3, by: 'keyword', minScore: 0.2 },
      {},
    ])
    const none = new CliHarness()
    await none.run('memory', 'search', 'notes', 'x')
    expect(none.err).toContain('Nothing in memory notes fits.')
  })

  test('ingest takes one file after another in, each under its path, and standard input under a name', async () => {
    const cli = world()
    cli.files['/srv/docs/a.md'] = 'a'
    cli.files['/srv/b.md'] = 'b'
    expect(await cli.run('memory', 'ingest', 'notes', './docs/a.md', 'b.md')).toBe(0)
    expect(cli.out).toBe('docs/a.md: 3 entries, 1 of before are gone\nb.md: 3 entries, 1 of before are gone\n')
    expect(cli.client.calls.map((call) => call[3])).toEqual([
      { source: 'docs/a.md', text: 'a', metadata: {} },
      { source: 'b.md', text: 'b', metadata: {} },
    ])
    const piped = world()
    piped.stdinText = 'log'
    expect(await piped.run('memory', 'ingest', 'notes', '-', '--as', 'history', '-o', 'json')).toBe(0)
    expect(JSON.parse(piped.out)).toEqual({ ingested: [{ source: 'history', chunks: 3, removed: 1 }] })
  })

  test('delete takes keys, a prefix or everything', async () => {
    const cli = world()
    expect(await cli.run('memory', 'delete', 'notes', 'a', 'b')).toBe(0)
    expect(cli.out).toBe('2 entries are deleted\n')
    await cli.run('memory', 'delete', 'notes', '--prefix', 'x/')
    await cli.run('memory', 'delete', 'notes', '--all', '--agent', 'w')
    expect(cli.client.calls.map((call) => call[3])).toEqual([
      { keys: ['a', 'b'] },
      { prefix: 'x/' },
      { all: true, scope: 'agent/w' },
    ])
  })

  test('check says that a memory can be used', async () => {
    const cli = world()
    expect(await cli.run('memory', 'check', 'notes')).toBe(0)
    expect(cli.out).toContain('notes can be used, in the store; its model makes vectors of 64 numbers')
  })

  test.each([
    [['list', 'notes', '--limit', 'x'], '--limit x is no whole number'],
    [['list', 'notes', '--run', 'r', '--agent', 'a'], 'cannot be used together'],
    [['put', 'notes', 'k', ' '], 'the text is empty'],
    [['put', 'notes', 'k', 't', '--meta', 'x'], '--meta x has not the form'],
    [['search', 'notes', 'q', '--by', 'magic'], '--by magic is none of auto, keyword, vector'],
    [['search', 'notes', 'q', '--min-score', '2'], '--min-score 2 is no number from 0 to 1'],
    [['ingest', 'notes', '-'], 'standard input has no name'],
    [['ingest', 'notes', 'a', 'b', '--as', 's'], '--as names one file'],
    [['delete', 'notes'], 'give the keys, --prefix or --all'],
    [['delete', 'notes', 'a', '--all'], 'give the keys, --prefix or --all'],
  ])('%j is refused before anything is asked', async (words, problem) => {
    const cli = world()
    expect(await cli.run('memory', ...words)).toBe(2)
    expect(cli.err).toContain(problem)
    expect(cli.client.calls).toEqual([])
  })
})
