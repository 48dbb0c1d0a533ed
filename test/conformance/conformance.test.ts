import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type OrreryProcess, startOrrery } from '../support/processes.ts'
import { expectedFailures, failedChecks, runSuite, scenariosOf, type Side } from './suite.ts'

const CLIENT = join(import.meta.dirname, 'mcp-client.ts')
const scenarios = { client: await scenariosOf('client'), server: await scenariosOf('server') }
const expected = { client: await expectedFailures('client'), server: await expectedFailures('server') }

let home = ''
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-conformance-'))
})
afterAll(() => rm(home, { recursive: true, force: true }))

/** A check that fails has to be expected; one that is expected has to fail, and the expectation to be in date. */
function expectAsListed(side: Side, scenario: string, failed: string[] | null): void {
  const known = expected[side].get(scenario)
  expect(failed, `the checks of ${scenario} that failed (expected-failures.yaml)`).toEqual(known?.checks ?? [])
}

describe.each(['client', 'server'] as const)('what the %s is known to fail', (side) => {
  test('is of scenarios that there are', () => {
    expect([...expected[side].keys()].filter((name) => !scenarios[side].includes(name))).toEqual([])
    expect(scenarios[side].length).toBeGreaterThan(40)
  })

  test('is looked at anew when its date has passed', () => {
    const today = new Date().toISOString().slice(0, 10)
    const over = [...expected[side]].filter(([, { until }]) => !/^\d{4}-\d\d-\d\d$/.test(until) || until < today)
    expect(over).toEqual([])
  })
})

describe('the client of MCP servers', () => {
  test.each(scenarios.client)('%s', async (scenario) => {
    const args = ['--command', `${process.execPath} ${CLIENT}`, '--scenario', scenario, '--timeout', '60000']
    const folder = join(home, 'client')
    await runSuite(['client', ...args, '--output-dir', folder])
    expectAsListed('client', scenario, await failedChecks(folder, scenario))
  })
})

describe('Orrery as an MCP server', () => {
  let up: OrreryProcess
  let front: Server
  const folder = () => join(home, 'server')

  beforeAll(async () => {
    const data = join(home, 'data')
    up = startOrrery(['up', '--port', '0', '--log-level', 'warn'], { env: { ORRERY_DATA_DIR: data } })
    const { port: target } = new URL((await up.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 }))[1] ?? '')
    const token = (await readFile(join(data, 'admin.token'), 'utf8')).trim()
    // The suite knows no tokens: what it sends passes one who adds it, and is otherwise as it was.
    front = createServer((incoming, outgoing) => {
      const { url: path, method } = incoming
      const headers = { ...incoming.headers, authorization: `Bearer ${token}` }
      const behind = request({ host: '127.0.0.1', port: target, path, method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        answer.pipe(outgoing)
      })
      behind.on('error', () => outgoing.destroy())
      incoming.pipe(behind)
    })
    await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve))
    const { port } = front.address() as AddressInfo
    const url = `http://localhost:${port}/mcp`
    await runSuite(['server', '--url', url, '--suite', 'all', '--timeout', '60000', '--output-dir', folder()])
  })
  afterAll(async () => {
    front.closeAllConnections()
    front.close()
    await up.stop()
  })

  test.each(scenarios.server)('%s', async (scenario) => {
    expectAsListed('server', scenario, await failedChecks(folder(), scenario))
  })
})
