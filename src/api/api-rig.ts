import { systemClock } from '../base/clock.ts'
import { createIds } from '../base/ids.ts'
import { silentLog } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import type { RegisterRequest } from '../contract/exchange.ts'
import { type Api, createApi } from './create-api.ts'
import { ADMIN_TOKEN, ScriptedEngine } from './scripted-engine.ts'
import { serve, type Serving } from './serve.ts'

/** What the tests of the api share: an api over the scripted engine. */
export interface ApiRig {
  engine: ScriptedEngine
  api: Api
  errors: string[]
}

const ids = createIds(systemClock, systemRandom)

export function makeApi(): ApiRig {
  const engine = new ScriptedEngine()
  const errors: string[] = []
  const log = { ...silentLog, error: (message: string) => void errors.push(message) }
  const metrics = { contentType: 'text/plain; version=0.0.4', metrics: () => 'up 1\n' }
  return { engine, errors, api: createApi({ engine, clock: systemClock, ids, log, version: '0.1.0', metrics }) }
}

export function serveApi(
  api: Api,
  options: { port?: number; requestStallMs?: number; tls?: { cert: string; key: string } } = {},
): Promise<Serving> {
  return serve(api, { host: '127.0.0.1', port: 0, clock: systemClock, ids, closeGraceMs: 200, ...options })
}

/** A worker that comes for the first time. */
export const REGISTER: RegisterRequest = {
  worker: 'w1',
  version: '0.1.0',
  host: 'h',
  pid: 1,
  pidStart: null,
  clock: 1,
  capacity: 2,
  labels: {},
  namespaces: null,
  backends: ['function'],
  modules: [],
  replaces: null,
  held: [],
}

export const ADMIN = { authorization: `Bearer ${ADMIN_TOKEN}` }

/** Waits for a state, not for a time. */
export async function eventually(holds: () => boolean, withinMs = 50_000): Promise<void> {
  const end = systemClock.monotonic() + withinMs
  while (!holds()) {
    if (systemClock.monotonic() > end) throw new Error(`not so within ${withinMs} ms: ${holds}`)
    await systemClock.sleep(5)
  }
}
