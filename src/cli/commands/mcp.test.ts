import { join } from 'node:path'
import { expect, test } from 'vitest'
import { CliHarness } from '../testing/cli-harness.ts'

const PROGRAM = join(import.meta.dirname, '..', '..', 'agents', 'testing', 'mcp-program.ts')
const MANIFEST = JSON.stringify({
  apiVersion: 'orrery.dev/v1',
  kind: 'McpServer',
  metadata: { name: 'bad' },
  spec: {
    transport: 'stdio',
    stdio: {
      command: process.execPath,
      args: [PROGRAM, 'stdio'],
      env: { TOKEN: { secret: 'bad', key: 'token' } },
    },
    tools: { include: ['echo', 'fail', 'variables'], overrides: [{ match: 'variables', operation: 'read' }] },
  },
})

const harness = () => {
  const cli = new CliHarness()
  cli.files['/srv/servers.json'] = MANIFEST
  cli.files['/srv/token.txt'] = 'hush-hush\n'
  return cli
}
const FROM = ['-f', 'servers.json', '--secret', 'bad/token=@token.txt']

test('mcp tools lists what agents would be offered, from a manifest and without a server', async () => {
  const cli = harness()
  expect(await cli.run('mcp', 'tools', 'bad', ...FROM)).toBe(0)
  expect(cli.out).toMatch(/bad\.echo +write +- /)
  expect(cli.out).toMatch(/bad\.variables +read +yes/)
  expect(cli.client.calls).toEqual([])
})

test('mcp call prints what a tool gives, without the secrets that it was given', async () => {
  const cli = harness()
  expect(await cli.run('mcp', 'call', 'bad', 'variables', ...FROM)).toBe(0)
  expect(JSON.parse(cli.out)).toMatchObject({ TOKEN: '[secret]' })
  const data = harness()
  expect(await data.run('mcp', 'call', 'bad', 'bad.echo', ...FROM, '--input', '{"text":"hello"}', '-o', 'json')).toBe(0)
  expect(JSON.parse(data.out)).toMatchObject({ output: { said: 'hello' } })
})

test('a call that fails ends with its code; what is missing is said with the flag that gives it', async () => {
  const cli = harness()
  expect(await cli.run('mcp', 'call', 'bad', 'fail', ...FROM)).not.toBe(0)
  expect(cli.err).toContain('tool.failed')
  expect(cli.err).toContain('the disk is on fire')
  const poor = harness()
  expect(await poor.run('mcp', 'tools', 'bad', '-f', 'servers.json')).not.toBe(0)
  expect(poor.err).toContain('mcp.auth_failed')
  expect(poor.err).toContain('--secret bad/token=VALUE')
  const wrong = harness()
  expect(await wrong.run('mcp', 'tools', 'good', ...FROM)).not.toBe(0)
  expect(wrong.err).toContain('resource.not_found')
  for (const bad of [
    ['--input', 'text'],
    ['--secret', 'token=x'],
  ]) {
    const usage = harness()
    expect(await usage.run('mcp', 'call', 'bad', 'echo', ...FROM, ...bad)).toBe(2)
  }
})

test('mcp list shows servers, and whether their secrets are there', async () => {
  const cli = harness()
  const { spec } = JSON.parse(MANIFEST) as { spec: object }
  cli.client.resources = {
    list: () => Promise.resolve({ items: [{ metadata: { name: 'bad', namespace: 'default' }, spec }], next: null }),
  } as never // the one method that is asked
  expect(await cli.run('mcp', 'list')).toBe(0)
  expect(cli.out).toMatch(/bad +stdio +- +missing /)
  cli.client.secret = {
    namespace: 'default',
    name: 'bad',
    keys: [{ key: 'token', stored: null, places: [{ from: 'store', name: 'bad', found: true, note: null }] }],
  }
  const again = await cli.run('mcp', 'list', '-o', 'json')
  expect(again).toBe(0)
  expect(cli.out).toContain('"secrets":"found"')
})
