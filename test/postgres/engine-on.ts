import { createIds, seededRandom, silentLog, systemClock } from '../../src/base/index.ts'
import { noMetrics } from '../../src/base/metrics.ts'
import {
  type Caller,
  createEngine,
  DEFAULT_TIMES,
  type EngineDeps,
  type RunningEngine,
} from '../../src/engine/index.ts'
import type { Db } from '../../src/store/db.ts'

const who = { actor: 'tok_admin', organisation: '*', namespaces: null, requestId: 'req' }
export const ADMIN: Caller = { ...who, role: 'admin' }

/** A server's engine over connections of its own; nothing of it runs by itself. Its ids come from `seed`. */
export const engineOn = (
  db: Db,
  serverId: string,
  { seed, ...more }: { seed: number } & Pick<EngineDeps, 'gate'>,
): RunningEngine =>
  createEngine({
    db,
    serverId,
    clock: systemClock,
    random: seededRandom(1),
    ids: createIds(systemClock, seededRandom(seed)),
    log: silentLog,
    metrics: noMetrics,
    version: '0',
    address: null,
    host: serverId,
    isAlive: () => null,
    times: { ...DEFAULT_TIMES, pollMs: 0 },
    ...more,
  })
