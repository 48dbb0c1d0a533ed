import { tmpdir } from 'node:os'
import { systemClock } from '../../base/clock.ts'
import { createDeadlines } from '../../base/deadlines.ts'
import type { JsonObject } from '../../base/json.ts'
import { seededRandom } from '../../base/random.ts'
import type { ToolCallEnvelope } from '../../domain/agents/tool-envelope.ts'
import { Failure } from '../../domain/failure.ts'
import { readTool, type ToolSpec } from '../../domain/kinds/tool.ts'
import { createEgress } from '../egress.ts'
import { createToolRunner, type ToolRunnerDeps } from '../tools/create-tool-runner.ts'
import type { ToolEnv } from '../tools/tool-driver.ts'

/** A spec as it is stored, read as calls use it. */
export const toolOf = (spec: JsonObject): ToolSpec => readTool({ description: 'for a test', ...spec })

export const callOf = (input: JsonObject, more: Partial<ToolCallEnvelope> = {}): ToolCallEnvelope => ({
  version: 1,
  tool: 'it',
  idempotencyKey: 'stp_1/call_1',
  attempt: 1,
  operation: 'read',
  input,
  timeoutMs: 60_000,
  context: {
    namespace: 'default',
    runId: 'run_1',
    step: 'write',
    agent: 'writer',
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  },
  ...more,
})

/** What a call is given, with the secrets `SECRET/KEY` that there are, and the lines that the tool said. */
export function envOf(secrets: Record<string, string> = {}, more: Partial<ToolEnv> = {}) {
  const lines: string[] = []
  const env: ToolEnv = {
    signal: new AbortController().signal,
    egress: createEgress(),
    clock: systemClock,
    secret: async ({ secret, key }) => {
      const value = secrets[`${secret}/${key}`]
      if (value === undefined) throw new Failure('secret.not_found', `looking for secret ${secret}`)
      return value
    },
    workdir: async () => tmpdir(),
    log: (line) => void lines.push(line),
    ...more,
  }
  return { env, lines }
}

/** One call of a tool by the drivers that there are; tests call on this machine. */
export async function callTool(
  spec: JsonObject,
  input: JsonObject = {},
  given: { secrets?: Record<string, string>; env?: Partial<ToolEnv>; deps?: Partial<ToolRunnerDeps> } = {},
) {
  const { env, lines } = envOf(given.secrets, given.env)
  // A test that turns the clock for what waits between calls ends none of them.
  const deadlines = createDeadlines(systemClock)
  const runner = createToolRunner({ clock: env.clock, random: seededRandom(1), deadlines, ...given.deps })
  const isNear = typeof spec['type'] === 'string' && ['http', 'external', 'callback', 'grpc'].includes(spec['type'])
  const tool = toolOf({
    ...(isNear ? { allowPrivateAddresses: true } : {}),
    retry: { max: 2, initial: '1ms' },
    ...spec,
  })
  const ran = await runner.call('it', tool, callOf(input, { operation: tool.operation }), env)
  return { ...ran, lines }
}
