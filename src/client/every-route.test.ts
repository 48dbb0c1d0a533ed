import { expect, test } from 'vitest'
import { Secret } from '../base/secret.ts'
import { EXCHANGE_PATHS } from '../contract/exchange.ts'
import { type Route, ROUTES } from '../contract/routes.ts'
import { KINDS } from '../domain/kinds/registry.ts'
import { createClient } from './create-client.ts'
import type { Transport, TransportRequest } from './transport.ts'

/** Takes every request, and answers with an empty object. */
function recorder(): { transport: Transport; asked: TransportRequest[] } {
  const asked: TransportRequest[] = []
  const head = { status: 200, contentType: 'application/json' }
  async function* nothing(): AsyncIterable<string> {}
  return {
    asked,
    transport: {
      address: 'http://recorder',
      addressFrom: null,
      send: async (request) => {
        asked.push(request)
        return { ...head, body: '{"items":[],"id":"run_1","state":"succeeded"}' }
      },
      open: async (request) => {
        asked.push(request)
        return { status: 200, contentType: request.headers['accept'] ?? '', body: nothing() }
      },
      close: () => undefined,
    },
  }
}

const patternOf = ({ path }: Route): RegExp =>
  new RegExp(`^${path.replaceAll(/[.]/g, '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`)

/** The first one fits: a fixed path stands before one with a parameter. */
const routeOf = ({ method, path }: TransportRequest): string | undefined => {
  const bare = path.split('?')[0] ?? ''
  const fitting = ROUTES.filter((route) => route.method === method && patternOf(route).test(bare))
  return fitting.sort((a, b) => a.path.split('{').length - b.path.split('{').length)[0]?.id
}

test('every route that is not for workers is asked by a method of the client', async () => {
  const { transport, asked } = recorder()
  const client = createClient({ transport, token: new Secret('t') })
  const gone = { signal: AbortSignal.abort() }
  const first = async (items: AsyncIterable<unknown>) => {
    await items[Symbol.asyncIterator]()
      .next()
      .catch(() => undefined)
  }
  await client.putDefinition({ manifest: '' })
  await client.getDefinition('sha256:x')
  await client.createRun({ definition: 'x' })
  await client.createRuns({ definition: 'x', items: [{}] })
  await client.getRun('run_1')
  await client.waitForRun('run_1')
  await client.listRuns()
  await client.listSteps('run_1')
  await client.cancelRun('run_1')
  await client.retryRun('run_1')
  await client.retryStep('run_1', 'a[1]')
  await client.skipStep('run_1', 'a[1]', null)
  await client.nudgeRun('run_1')
  await client.sendEvent('run_1', { name: 'paid' })
  await client.listApprovals()
  await client.getApproval('apr_1')
  await client.approve('apr_1')
  await client.deny('apr_1')
  await first(client.followEvents('run_1', gone))
  await first(client.followLogs('run_1', gone))
  await client.showJournal('run_1', 'a[1]')
  await client.listArtifacts('run_1')
  await client.openArtifact('run_1', { step: 'a', name: 'b' })
  await first(client.askModel('default', 'a', { prompt: 'b' }))
  await client.checkAgent('default', 'a', { tool: 'b' })
  await client.listMemoryEntries('default', 'a')
  await client.getMemoryEntry('default', 'a', { key: 'b' })
  await client.putMemoryEntry('default', 'a', { key: 'b' }, { text: 'c' })
  await client.searchMemory('default', 'a', { query: 'b' })
  await client.ingestMemory('default', 'a', { source: 'b', text: 'c' })
  await client.deleteMemoryEntries('default', 'a', { all: true })
  await client.checkMemory('default', 'a')
  await client.listWorkers()
  await client.getStatus()
  await client.getDoctor()
  await client.putSecret('default', 'a', { values: { b: 'c' } })
  await client.listSecrets('default')
  await client.getSecret('default', 'a')
  await client.deleteSecret('default', 'a')
  await client.rotateSecrets()
  await client.getHealth()
  await client.getReadiness()
  await client.getMetrics()
  await client.getOpenApi()
  await client.createToken({ name: 'a', role: 'viewer' })
  await client.listTokens()
  await client.revokeToken('tok_1')
  await client.whoami()
  await client.canI({ verb: 'get', resource: 'runs' })
  await client.listCosts()
  await client.listAudit()
  await client.resources.apply('')
  for (const { kind, isVersioned } of KINDS) {
    const ref = { kind, namespace: 'default', name: 'a' }
    await client.resources.get(ref)
    await client.resources.list(kind)
    await client.resources.list(kind, { namespace: 'default' })
    await client.resources.put(ref, '', { isNew: true })
    await client.resources.remove(ref)
    if (!isVersioned) continue
    await client.resources.listVersions(ref)
    await client.resources.getVersion(ref, 1)
  }
  const workers = new Set<string>(Object.values(EXCHANGE_PATHS))
  // What MCP clients ask at /mcp they ask in the words of their protocol.
  const wanted = ROUTES.filter((route) => !workers.has(route.path) && route.id !== 'mcp').map((route) => route.id)
  expect(new Set(asked.map(routeOf))).toEqual(new Set(wanted))
})
