import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { treeCpuSeconds } from '../cpu.ts'
import { walBytes } from '../history.ts'
import { closedLoop } from '../http.ts'
import { type Rig, rssMb, startRig } from '../rig.ts'

const MODEL_PORT = 7801
const SERVER_PORT = 7790
/** Of the agent: as many calls of the tool, one a turn, and the answer. */
const TURNS = 10
const PROMPT = 'Add numbers until you are told that all is added. This is conversation'
/** Conversations before those that count, as with every peer: what is measured has run for a while. */
const WARM_UP = 100
const PEERS = ['openai-agents', 'langgraph', 'mastra']

type Note = (row: Record<string, unknown>) => void
interface Databases {
  createDatabase(name?: string): Promise<string>
}

const conversation = (name: string, agent: string) => ({
  kind: 'Workflow',
  metadata: { name },
  spec: {
    inputs: { type: 'object', properties: { conversation: { type: 'number' } } },
    steps: [{ name: 'add', agent, with: { prompt: `${PROMPT} \${{ string(inputs.conversation) }}` } }],
  },
})

export const RESOURCES = [
  {
    kind: 'ModelEndpoint',
    metadata: { name: 'instant' },
    spec: {
      provider: 'openai-compatible',
      model: 'instant',
      baseUrl: `http://127.0.0.1:${MODEL_PORT}/v1`,
      allowPrivateAddresses: true,
      retry: 0,
    },
  },
  {
    kind: 'Tool',
    metadata: { name: 'add' },
    spec: {
      type: 'http',
      description: 'adds',
      inputSchema: {
        type: 'object',
        properties: { conversation: { type: 'number' }, n: { type: 'number' } },
        required: ['conversation', 'n'],
      },
      http: {
        method: 'POST',
        url: `http://127.0.0.1:${MODEL_PORT}/add`,
        body: { conversation: '${{ inputs.conversation }}', n: '${{ inputs.n }}' },
      },
      allowPrivateAddresses: true,
    },
  },
  {
    kind: 'Agent',
    metadata: { name: 'adder' },
    spec: { model: 'instant', instructions: 'You add.', tools: ['add'], limits: { maxTurns: 30 } },
  },
  conversation('adding', 'adder'),
  conversation('waiting', 'asker'),
  {
    kind: 'Agent',
    metadata: { name: 'asker' },
    spec: { model: 'instant', instructions: 'You add.', tools: ['add'], approval: 'always' },
  },
  conversation('counting', 'counted'),
  {
    kind: 'Agent',
    metadata: { name: 'counted' },
    spec: { model: 'instant', instructions: 'You add.', tools: ['add'], limits: { maxTurns: 30 } },
  },
  {
    kind: 'Budget',
    metadata: { name: 'never-used-up' },
    spec: { selector: { agents: ['counted'] }, window: 'day', limits: { tokens: 1_000_000_000_000 } },
  },
].map((resource) => ({ apiVersion: 'orrery.dev/v1', ...resource }))

/** Budgets are there for weeks: a server keeps counts of one that it has known for a minute. */
const BUDGET_KNOWN_MS = 61_000

async function startModel(): Promise<ChildProcess> {
  const model = spawn(process.execPath, [new URL('./model-server.ts', import.meta.url).pathname], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PORT: String(MODEL_PORT), TURNS: String(TURNS) },
  })
  await new Promise<void>((resolve, reject) => {
    model.stdout.once('data', () => resolve())
    model.once('exit', () => reject(new Error('the model did not start')))
  })
  return model
}

const ofModel = async (path: string): Promise<Record<string, unknown>> =>
  (await (await fetch(`http://127.0.0.1:${MODEL_PORT}${path}`)).json()) as Record<string, unknown>

/** One conversation after another, then 200 at once; on PostgreSQL and embedded, beside what others do with the same script. */
export async function measureAgents(
  postgres: Databases,
  note: Note,
  options: { peers: boolean; scale: number },
): Promise<void> {
  const model = await startModel()
  const one = Math.round(60 * options.scale)
  const many = Math.round(600 * options.scale)
  try {
    if (options.peers) await runPeers(postgres, note, { one, many })
    const counts = { one, many }
    await measureOurs(await postgres.createDatabase('agents'), note, { ...counts, store: 'postgres', workers: 1 })
    await measureOurs(await postgres.createDatabase('agents_own'), note, { ...counts, store: 'postgres', workers: 0 })
    await measureOurs(null, note, { ...counts, store: 'embedded', workers: 0 })
  } finally {
    model.kill('SIGKILL')
  }
}

async function measureOurs(
  dsn: string | null,
  note: Note,
  { one, many, store, workers }: { one: number; many: number; store: string; workers: number },
): Promise<void> {
  const rig = await startRig({ dsn, port: SERVER_PORT, workers, capacity: 500 })
  const who = { who: 'orrery', store, worker: workers === 0 ? 'in the server' : 'a process' }
  try {
    await rig.http.ask('POST', '/v1/apply', { kind: 'List', items: RESOURCES })
    let next = 0
    const converse = async (workflowRef = 'adding'): Promise<void> => {
      const inputs = { conversation: next++ }
      const run = await rig.http.ask<{ id: string; state: string }>(
        'POST',
        '/v1/runs',
        { workflowRef, inputs },
        { prefer: 'wait=120' },
      )
      if (run.state !== 'succeeded') throw new Error(`run ${run.id} is ${run.state}`)
    }
    const converseCounted = () => converse('counting')
    const budgetSince = performance.now()
    await converseCounted()
    await closedLoop(WARM_UP, 1, () => converse())
    const first = await measured(rig, () => closedLoop(one, 1, () => converse()))
    note({ shape: 'ten-turn agent, one at a time', ...who, ...first })
    await closedLoop(200, 200, () => converse())
    const before = dsn === null ? 0 : await walBytes(dsn)
    const together = await measured(rig, () => closedLoop(many, 200, () => converse()))
    const wal = dsn === null ? {} : { walPerTurn: Math.round(((await walBytes(dsn)) - before) / (many * TURNS)) }
    note({ shape: 'ten-turn agents, 200 at once', ...who, ...together, ...memoryOf(rig), ...wal })
    await measureWaiting(rig, note, who)
    await sleep(Math.max(0, budgetSince + BUDGET_KNOWN_MS - performance.now()))
    await closedLoop(WARM_UP, 1, converseCounted)
    const counted = await measured(rig, () => closedLoop(one, 1, converseCounted))
    note({ shape: 'ten-turn agent that a budget counts, one at a time', ...who, ...counted })
  } finally {
    await rig.stop()
  }
}

/** What the model saw while `work` ran, and the CPU that server and worker took for each turn. */
async function measured(rig: Rig, work: () => Promise<unknown>): Promise<Record<string, unknown>> {
  const cpu = (): number[] =>
    [rig.server, rig.workers[0]].map((process) => (process?.pid ? treeCpuSeconds(process.pid) : 0))
  await ofModel('/reset')
  const before = cpu()
  await work()
  const stats = await ofModel('/stats')
  const [server, worker] = cpu().map((seconds, i) =>
    Number((((seconds - (before[i] ?? 0)) * 1000) / Number(stats['tool'])).toFixed(2)),
  )
  return { ...stats, cpuMsPerTurn: { server, worker } }
}

/** What agents cost that wait for a person: they hold a row and no process. */
async function measureWaiting(rig: Rig, note: Note, who: Record<string, string>): Promise<void> {
  const count = 500
  const before = memoryOf(rig)
  for (let i = 0; i < count; i += 50)
    await Promise.all(
      Array.from({ length: 50 }, (_, k) =>
        rig.http.ask('POST', '/v1/runs', { workflowRef: 'waiting', inputs: { conversation: 5_000_000 + i + k } }),
      ),
    )
  for (let waiting = 0, tries = 0; waiting < count && tries < 600; tries++) {
    await sleep(100)
    const page = await rig.http.ask<{ items: unknown[] }>('GET', '/v1/runs?workflow=waiting&state=waiting&limit=500')
    waiting = page.items.length
  }
  const after = memoryOf(rig)
  const kbEach = Number(
    (((after.serverMb + after.workerMb - before.serverMb - before.workerMb) * 1024) / count).toFixed(1),
  )
  note({ shape: `${count} agents that wait for a person`, ...who, before, after, kbEach })
}

const memoryOf = (rig: Rig): { serverMb: number; workerMb: number } => ({
  serverMb: rssMb(rig.server.pid ?? 0),
  workerMb: rig.workers[0] ? rssMb(rig.workers[0].pid ?? 0) : 0,
})

async function runPeers(postgres: Databases, note: Note, { one, many }: { one: number; many: number }): Promise<void> {
  const home = join('.cache', 'bench-agents')
  mkdirSync(home, { recursive: true })
  cpSync(new URL('./peers', import.meta.url).pathname, home, { recursive: true })
  if (!existsSync(join(home, 'node_modules')))
    spawnSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: home, stdio: 'inherit' })
  for (const peer of PEERS) {
    const dsn = await postgres.createDatabase(`peer_${peer.replace('-', '_')}`)
    for (const [shape, count, inFlight] of [
      ['ten-turn agent, one at a time', one, 1],
      ['ten-turn agents, 200 at once', many, 200],
    ] as const) {
      const before = await walBytes(dsn)
      const done = spawnSync(
        process.execPath,
        [`${peer}.mjs`, String(MODEL_PORT), dsn, String(count), String(inFlight)],
        {
          cwd: home,
          encoding: 'utf8',
          timeout: 600_000,
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      )
      const said = done.stdout.trim().split('\n').at(-1) ?? ''
      if (done.status !== 0) note({ shape, who: peer, failed: done.stderr.slice(-500) })
      else {
        const walPerTurn = Math.round(((await walBytes(dsn)) - before) / ((count + WARM_UP) * TURNS))
        note({ shape, who: peer, ...(await ofModel('/stats')), ...(JSON.parse(said) as object), walPerTurn })
      }
    }
  }
}
