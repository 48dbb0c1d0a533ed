// Model endpoints over a server that was started as people start it, with providers that nobody here wrote behind them.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished, vi } from 'vitest'
import { resultOf } from '../../src/agents/index.ts'
import type { JsonObject } from '../../src/base/index.ts'
import type { AskModelRequest } from '../../src/contract/api-types.ts'
import { Failure, type FailureRecord } from '../../src/domain/index.ts'
import type { ModelResult } from '../../src/domain/model-call.ts'
import { runOrrery } from '../support/processes.ts'
import { startUp, type Up } from './rig.ts'

export interface ModelScene {
  up: Up
  /** Applies a ModelEndpoint, or replaces it. Private addresses are allowed and retries are quick unless it says otherwise. */
  declare(name: string, spec: JsonObject): Promise<void>
  orrery(...args: string[]): ReturnType<typeof runOrrery>
  /** What the endpoint answers. */
  ask(name: string): Promise<ModelResult>
  /** Why it does not. */
  refused(name: string, request?: Partial<AskModelRequest>): Promise<FailureRecord>
}

export async function openModels(args: readonly string[] = []): Promise<ModelScene> {
  const up = await startUp(args)
  const env = { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token }
  const orrery = (...more: string[]) => runOrrery(more, { env })
  const asked = (name: string, request: Partial<AskModelRequest> = {}) =>
    up.client.askModel('default', name, { prompt: 'hello', ...request })
  return {
    up,
    orrery,
    async declare(name, spec) {
      const retry = { max: 1, initial: '10ms', maxDelay: '2s' }
      const manifest = { apiVersion: 'orrery.dev/v1', kind: 'ModelEndpoint', metadata: { name } }
      const quick = spec['provider'] === 'mock' ? {} : { allowPrivateAddresses: true }
      await up.client.resources.apply(JSON.stringify({ ...manifest, spec: { ...quick, retry, ...spec } }))
    },
    ask: (name) => resultOf(asked(name)),
    async refused(name, request) {
      const failed: unknown = await resultOf(asked(name, request)).catch((error: unknown) => error)
      if (failed instanceof Failure) return failed.toRecord()
      throw new Error(`${name} answered: ${JSON.stringify(failed)}`, { cause: failed })
    },
  }
}

/** An address at which nobody listens. */
export async function freeAddress(): Promise<string> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo // listening on TCP
  await new Promise((resolve) => server.close(resolve))
  return `http://127.0.0.1:${port}/v1`
}

/** A server that answers by rules, as its own package has it. */
export async function startMockLlm(rules: readonly JsonObject[]): Promise<string> {
  const { createServer: createMock } = await import('@dwmkerr/mock-llm/dist/server.js')
  const given = rules.map((rule) => ({ path: '/v1/chat/completions', ...rule })) as never // of the package's own form
  // It tells of every request.
  const told = vi.spyOn(console, 'log').mockImplementation(() => {})
  const app = createMock({ streaming: { chunkSize: 10, chunkIntervalMs: 0 }, rules: given }, '127.0.0.1', 0)
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  onTestFinished(() => {
    told.mockRestore()
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1` // listening on TCP
}
