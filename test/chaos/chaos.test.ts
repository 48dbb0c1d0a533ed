// Two servers, three workers and PostgreSQL, any of which is killed at any moment, under two hundred runs in flight.
// ORRERY_CHAOS_SECONDS shortens it, ORRERY_CHAOS_SEED repeats the moments of an earlier one.
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { Failure } from '../../src/domain/index.ts'
import { seededRandom } from '../../src/base/index.ts'
import { eventually } from '../support/eventually.ts'
import { findPostgres } from '../support/postgres.ts'
import { expectNoProcessLeft } from '../support/processes.ts'
import { findWrongs } from './history.ts'
import { Rig } from './rig.ts'
import { SHAPES } from './workflows.ts'

const SECONDS = Number(process.env['ORRERY_CHAOS_SECONDS'] ?? 120)
const SEED = Number(process.env['ORRERY_CHAOS_SEED'] ?? Math.floor(Math.random() * 1e9))
const IN_FLIGHT = 200
const SETTLE_MS = 120_000

describe.skipIf(findPostgres().kind === 'missing')('chaos', () => {
  let rig: Rig | null = null
  afterEach(async () => {
    await rig?.close()
    await expectNoProcessLeft()
  })

  test(
    `nothing is lost and nothing recorded twice, whatever is killed (seed ${SEED})`,
    { timeout: SECONDS * 1_000 + 400_000 },
    async () => {
      const r = (rig = await Rig.start({ servers: 2, workers: 3 }))
      const random = seededRandom(SEED)
      const accepted = new Set<string>()
      const over = new AbortController()
      const load = keepInFlight(r, { random: seededRandom(SEED + 1), accepted, signal: over.signal })
      const kills = await killForAWhile(r, { random, ms: SECONDS * 1_000 })
      over.abort()
      await load
      expect(endedAlone(r), r.said()).toEqual([])
      await r.startAll()
      const isOver = async () => (await r.query('select 1 from run where ended_at is null limit 1')).length === 0
      await eventually(isOver, { withinMs: SETTLE_MS, what: 'the end of all runs' }).catch((error: unknown) => {
        throw new Error(r.said(), { cause: error })
      })
      const wrongs = await findWrongs(r, accepted)
      const counted = Object.entries(Object.groupBy(kills, (name) => name)).map(
        ([name, list]) => `${name} ${list?.length}`,
      )
      const lost = await r.query<{ n: number }>(`select count(*)::int as n from attempt where state = 'lost'`)
      process.stdout.write(
        `chaos: seed ${SEED}, ${accepted.size} runs, killed ${counted.join(', ')}; ${lost[0]?.n} attempts lost and made again\n`,
      )
      expect(wrongs.slice(0, 20), r.said()).toEqual([])
      expect(endedAlone(r), r.said()).toEqual([])
      expect(accepted.size).toBeGreaterThanOrEqual(IN_FLIGHT)
      expect(kills.length).toBeGreaterThan(0)
      // Commands that were given to another worker, or whose worker never adopted them, do not go on by themselves.
      await eventually(() => commandsOf(r.home).length === 0, { withinMs: 30_000, what: 'the end of all commands' })
    },
  )
})

const endedAlone = (rig: Rig): string[] => rig.members.flatMap((m) => m.endedAlone ?? [])

/** Starts runs so that so many are in flight; a request that was cut is sent again, under its key, to whichever server answers. */
async function keepInFlight(
  rig: Rig,
  { random, accepted, signal }: { random: ReturnType<typeof seededRandom>; accepted: Set<string>; signal: AbortSignal },
): Promise<void> {
  const shapes = Object.values(SHAPES)
  const create = async (key: string): Promise<void> => {
    const shape = shapes[Math.floor(random.next() * shapes.length)]
    if (!shape) return
    const ms = 20 + Math.floor(random.next() * 200)
    const request = { workflow: shape.manifest, inputs: { journal: rig.journalFile, ms, pause: '0.02' } }
    for (let tries = 0; ; tries++) {
      const server = rig.servers[(accepted.size + tries) % rig.servers.length]
      try {
        const made = await server?.client.createRun(request, { idempotencyKey: key })
        if (made) accepted.add(made.id)
        return
      } catch (error) {
        // Only what a cut or an outage explains may be answered.
        if (!(error instanceof Failure) || !/^(client\.server_unreachable|storage\.unreachable)$/.test(error.code))
          throw error
        await sleep(100)
      }
    }
  }
  let made = 0
  while (!signal.aborted) {
    const rows = await rig
      .query<{ n: number }>('select count(*)::int as n from run where ended_at is null')
      .catch(() => [])
    const missing = rows[0] ? IN_FLIGHT - rows[0].n : 0
    for (let i = 0; i < missing; i += 10) {
      await Promise.all(Array.from({ length: Math.min(10, missing - i) }, () => create(`chaos-${++made}`)))
    }
    await sleep(250)
  }
}

/** Kills one after another and starts each again after a while. Gives who was killed; all of it is left as it happens to be. */
async function killForAWhile(
  rig: Rig,
  { random, ms }: { random: ReturnType<typeof seededRandom>; ms: number },
): Promise<string[]> {
  const until = performance.now() + ms
  const kills: string[] = []
  const returns: Promise<void>[] = []
  const victims = [
    ...rig.members.map((m) => ({ name: m.name, kill: () => m.kill9(), start: async () => void m.start() })),
    { name: 'postgres', kill: () => rig.postgres.kill9(), start: () => rig.postgres.restart() },
  ]
  const down = new Set<string>()
  while (performance.now() < until) {
    await sleep(800 + random.next() * 3_200)
    const victim = victims[Math.floor(random.next() * victims.length)]
    const awayMs = random.next() * 4_000
    if (!victim || down.has(victim.name)) continue
    down.add(victim.name)
    kills.push(victim.name)
    await victim.kill()
    returns.push(
      sleep(awayMs).then(async () => {
        await victim.start()
        down.delete(victim.name)
      }),
    )
  }
  await Promise.all(returns)
  return kills
}

/** Processes of commands below a directory: each carries the directory of its attempt in its environment. */
function commandsOf(home: string): string[] {
  return readdirSync('/proc').filter((entry) => {
    if (!/^\d+$/.test(entry)) return false
    try {
      return readFileSync(`/proc/${entry}/environ`, 'latin1').includes(`ORRERY_ATTEMPT_DIR=${home}`)
    } catch {
      return false
    }
  })
}
