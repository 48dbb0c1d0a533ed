import type { Secret } from '../base/secret.ts'
import { EXCHANGE_PATHS, type ExchangeLane } from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import { Asker } from './ask.ts'
import { silenceFor } from './http-transport.ts'
import type { Transport } from './transport.ts'

/** The worker's way to a server. Reports and heartbeats are repeatable by their identity, polls by the attempts they list. */
export function createExchangeLane(options: { transport: Transport; token: Secret | null }): ExchangeLane {
  const asker = new Asker(options.transport, options.token)
  // The server answers with the contract's types: that is the reason for `as`.
  const send = (
    path: string,
    body: unknown,
    signal: AbortSignal | undefined,
    more: { repeatable: boolean; silenceMs?: number },
  ) => asker.ask('POST', path, { body, signal, ...more }) as Promise<never>
  return {
    register: (request, signal) => send(EXCHANGE_PATHS.register, request, signal, { repeatable: false }),
    poll: (request, signal) =>
      send(EXCHANGE_PATHS.poll, request, signal, { repeatable: true, silenceMs: silenceFor(LIMITS.pollMs) }),
    report: (request, signal) => send(EXCHANGE_PATHS.report, request, signal, { repeatable: true }),
    artifacts: (request, signal) => send(EXCHANGE_PATHS.artifacts, request, signal, { repeatable: true }),
    chunk: (request, signal) => send(EXCHANGE_PATHS.chunk, request, signal, { repeatable: true }),
    exports: (request, signal) => send(EXCHANGE_PATHS.exports, request, signal, { repeatable: true }),
    wantedFiles: (request, signal) => send(EXCHANGE_PATHS.files, request, signal, { repeatable: true }),
    memory: (request, signal) => send(EXCHANGE_PATHS.memory, request, signal, { repeatable: true }),
    wantedContent: (request, signal) => send(EXCHANGE_PATHS.content, request, signal, { repeatable: true }),
    journal: (request, signal) => send(EXCHANGE_PATHS.journal, request, signal, { repeatable: true }),
    append: (request, signal) => send(EXCHANGE_PATHS.append, request, signal, { repeatable: true }),
    agentContext: (request, signal) => send(EXCHANGE_PATHS.agent, request, signal, { repeatable: true }),
    // A heartbeat that hangs must fail while the lease can still be kept by another one.
    heartbeat: (request, signal) =>
      send(EXCHANGE_PATHS.heartbeat, request, signal, { repeatable: true, silenceMs: LIMITS.leaseMs / 2 }),
  }
}
