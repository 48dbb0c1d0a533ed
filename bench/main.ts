import { execFileSync, spawnSync } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startPostgres } from '../test/support/postgres.ts'
import { measureAgents } from './agents/run.ts'
import { statsOf } from './http.ts'
import { paceMs, treeCpuSeconds } from './cpu.ts'
import { holdTransaction, loadFinishedRuns, loadQueued, switchOffAutovacuum, transactionCount } from './history.ts'
import { rssMb, type Rig, startRig, workflow } from './rig.ts'
import { bulk, chain, fanOut, fibo, idleStart, recovery, type Row, single, threeStep, warmUp } from './shapes.ts'

const HELP = `npm run bench -- [options]
  --only a,b        shapes: idle c1 c50 bulk single chain1k chain10k fan fibo recovery
  --state s         fresh (default), history (a million finished runs), queued (200,000 queued steps and an old transaction), embedded, rest (idle cost, start-up), agents (ten-turn agents, beside three peers with --peers agents)
  --peers DIR       runs the peers of DIR (its setup.sh and run.sh) before ours, in the same session
  --rounds N        the whole list N times
  --scale X         share of the usual counts
  --out FILE        raw rows, appended`

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    state: { type: 'string', default: 'fresh' },
    peers: { type: 'string', default: '' },
    rounds: { type: 'string', default: '1' },
    scale: { type: 'string', default: '1' },
    out: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
/** How long a server at rest is watched. */
const REST_MS = 30_000

const scale = Number(values.scale)
const wanted = values.only === '' ? null : values.only.split(',')

const note = (row: Record<string, unknown>): void => {
  const line = JSON.stringify({
    at: new Date().toISOString(),
    node: process.version,
    load1: Number((loadavg()[0] ?? 0).toFixed(2)),
    pace: paceMs(),
    state: values.state,
    ...row,
  })
  console.log(line)
  if (values.out !== '') appendFileSync(values.out, `${line}\n`)
}

const shapesOf = (rig: Rig): Record<string, () => Promise<Row>> => ({
  idle: () => idleStart(rig, Math.round(300 * scale)),
  c1: () => threeStep(rig, Math.round(300 * scale), 1),
  c50: () => threeStep(rig, Math.round(5000 * scale), 50),
  bulk: () => bulk(rig, Math.round(20_000 * scale)),
  single: () => single(rig, Math.round(20_000 * scale), 100),
  chain1k: () => chain(rig, 1_000),
  chain10k: () => chain(rig, 10_000),
  fan: () => fanOut(rig, 10_000),
  fibo: () => fibo(rig, 40, 10),
  recovery: () => recovery(rig),
})

/** Shapes one after another, each with the CPU that server, worker and database took for it: less noisy than time on a shared machine. */
async function runShapes(rig: Rig, database: number | null): Promise<void> {
  const cpu = () =>
    [rig.server.pid, rig.workers[0]?.pid, database, process.pid].map((pid) => (pid ? treeCpuSeconds(pid) : 0))
  for (const [name, shape] of Object.entries(shapesOf(rig))) {
    if (wanted && !wanted.includes(name)) continue
    if (rig.workers.length === 0 && name === 'recovery') continue
    const before = cpu()
    const row = await shape()
    const [server = 0, worker = 0, postgres = 0, client = 0] = cpu().map((c, i) =>
      Number((c - (before[i] ?? 0)).toFixed(2)),
    )
    // The database runs below this process.
    note({
      ...row,
      cpuSeconds: { server, worker, postgres, client: Number((client - postgres - server - worker).toFixed(2)) },
    })
  }
}

/** What a server costs that has nothing to do, and how quick the command line is. */
async function measureRest(dsn: string, port: number): Promise<void> {
  await switchOffAutovacuum(dsn)
  const without = await transactionsIn(dsn, REST_MS)
  const rig = await startRig({ dsn, port, workers: 1, capacity: 16 })
  try {
    await sleep(5_000)
    const transactions = await transactionsIn(dsn, REST_MS)
    note({
      shape: 'idle server',
      // What the database does for itself, and the counting, is taken off.
      queriesPerSecond: Number(((transactions - without) / (REST_MS / 1000)).toFixed(2)),
      withoutServer: Number((without / (REST_MS / 1000)).toFixed(2)),
      serverMb: rssMb(rig.server.pid ?? 0),
      workerMb: rssMb(rig.workers[0]?.pid ?? 0),
    })
  } finally {
    await rig.stop()
  }
  const embedded = await startRig({ dsn: null, port, workers: 0, capacity: 16 })
  try {
    await sleep(5_000)
    note({ shape: 'idle embedded server', serverMb: rssMb(embedded.server.pid ?? 0) })
  } finally {
    await embedded.stop()
  }
  const main = new URL('../bin/orrery.mjs', import.meta.url).pathname
  const times: number[] = []
  for (let i = 0; i < 12; i++) {
    const begin = process.hrtime.bigint()
    execFileSync(process.execPath, [main, '--help'], { stdio: 'ignore' })
    if (i > 1) times.push(Number(process.hrtime.bigint() - begin) / 1e6)
  }
  note({ shape: 'cold --help', ms: statsOf(times) })
}

async function transactionsIn(dsn: string, ms: number): Promise<number> {
  const before = await transactionCount(dsn)
  await sleep(ms)
  return (await transactionCount(dsn)) - before
}

const postmaster = (dataDir: string): number =>
  Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0])

function runPeers(directory: string): void {
  const home = join('.cache', 'bench-peers')
  mkdirSync(home, { recursive: true })
  cpSync(directory, home, { recursive: true })
  if (!existsSync(join(home, 'node_modules'))) spawnSync('./setup.sh', { cwd: home, stdio: 'inherit' })
  else spawnSync('./setup.sh', { cwd: home, stdio: 'ignore' })
  const out = 'ours-beside.jsonl'
  spawnSync('rm', ['-f', out], { cwd: home })
  spawnSync('./run.sh', {
    cwd: home,
    stdio: 'inherit',
    env: {
      ...process.env,
      BENCH_OUT: out,
      WAITS: '3',
      PEERS: process.env['PEERS'] ?? 'baseline graphile-worker bullmq dbos restate',
      MODES: process.env['MODES'] ?? 'a,b,c',
    },
  })
  if (existsSync(join(home, out)))
    for (const line of readFileSync(join(home, out), 'utf8').trim().split('\n'))
      note({ peerRow: JSON.parse(line) as unknown })
  spawnSync('./setup.sh', ['stop'], { cwd: home, stdio: 'ignore' })
}

if (values.peers !== '' && values.state !== 'agents') runPeers(values.peers)

if (values.state === 'embedded') {
  const rig = await startRig({ dsn: null, port: 7790, workers: 0, capacity: 200 })
  try {
    await warmUp(rig)
    await runShapes(rig, null)
    note({ shape: 'embedded server', serverMb: rssMb(rig.server.pid ?? 0) })
  } finally {
    await rig.stop()
  }
} else {
  const postgres = await startPostgres()
  try {
    const dsn = await postgres.createDatabase('bench')
    if (values.state === 'rest') await measureRest(dsn, 7790)
    else if (values.state === 'agents') await measureAgents(postgres, note, { peers: values.peers !== '', scale })
    else {
      const rig = await startRig({ dsn, port: 7790, workers: 1, capacity: 1000 })
      let release = () => Promise.resolve()
      try {
        const definition = await rig.put(workflow('history', [{ name: 's', function: 'bench.noop' }]))
        if (values.state === 'history') await loadFinishedRuns(dsn, definition, 1_000_000)
        if (values.state === 'queued') {
          // A queue of its own, which no worker serves.
          const other = await rig.put(
            workflow('queued', [{ name: 's', function: 'bench.noop', runsOn: { nobody: 'here' } }]),
          )
          await loadQueued(dsn, other, 2, 200_000)
          release = await holdTransaction(dsn)
        }
        await warmUp(rig)
        for (let round = 0; round < Number(values.rounds); round++) await runShapes(rig, postmaster(postgres.dataDir))
      } finally {
        await release()
        await rig.stop()
      }
    }
  } finally {
    await postgres.stop()
  }
}
