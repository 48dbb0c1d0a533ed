import { expect, test } from 'vitest'
import { systemClock } from '../../base/clock.ts'
import { seededRandom } from '../../base/random.ts'
import { readTool } from '../../domain/kinds/tool.ts'
import { createToolRunner } from '../tools/create-tool-runner.ts'
import { addressOf, deadAddress, envelopeOf, mcpRig, programOf } from '../testing/mcp-rig.ts'
import { mcpDriver } from './mcp-driver.ts'

test('a Tool of the type mcp calls one tool of a server that the run is bound to', async () => {
  const { clients, env } = mcpRig()
  const away = addressOf(await deadAddress(), {}, { reconnect: { max: 0 } })
  const driver = mcpDriver(clients, { bad: programOf().spec, away: away.spec })
  const runner = createToolRunner({ clock: systemClock, random: seededRandom(1), drivers: { mcp: driver } })
  const logged: string[] = []
  const call = (server: string, tool: string, input = {}) => {
    const spec = readTool({
      type: 'mcp',
      description: 'Says it again.',
      mcp: { server, tool },
      retry: { max: 1, initial: '1ms' },
      operation: 'write',
    })
    const given = {
      ...env,
      clock: systemClock,
      workdir: async () => '/nowhere',
      log: (line: string) => logged.push(line),
    }
    return runner.call('again', spec, envelopeOf(input), given)
  }
  expect(await call('bad', 'echo', { text: 'hello' })).toMatchObject({
    result: { ok: true, output: { said: 'hello' } },
    tries: 1,
  })
  // Nothing reached it, so that it may be tried again whatever it does.
  expect(await call('away', 'echo')).toMatchObject({ result: { ok: false, code: 'mcp.unreachable' }, tries: 2 })
  expect(await call('bad', 'die', { code: 1 })).toMatchObject({
    result: { ok: false, code: 'mcp.exited', evidence: { outcome: 'unknown' } },
    tries: 1,
  })
  expect(await call('gone', 'echo')).toMatchObject({ result: { ok: false, code: 'resource.not_found' } })
  expect(logged).toHaveLength(1)
})
