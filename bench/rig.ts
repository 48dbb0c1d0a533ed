import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BenchHttp } from './http.ts'

const MAIN = new URL('../bin/orrery.mjs', import.meta.url).pathname
const FUNCTIONS = new URL('./functions.ts', import.meta.url).pathname

export interface Rig {
  http: BenchHttp
  server: ChildProcess
  workers: ChildProcess[]
  directory: string
  addWorker(): Promise<ChildProcess>
  put(workflow: object): Promise<string>
  stop(): Promise<void>
}

const TOKEN = 'bench-admin-token-0123456789abcdef'
const WORKER_TOKEN = 'bench-worker-token-0123456789abcdef'

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (await holds().catch(() => false)) return
    await sleep(50)
  }
  throw new Error(`not within 30 s: ${what}`)
}

/** A server and its workers as processes of their own, over the public API. `dsn` null is the embedded store. Without workers the server has its own, in process. */
export async function startRig(options: {
  dsn: string | null
  port: number
  workers: number
  capacity: number
}): Promise<Rig> {
  const directory = mkdtempSync(join(tmpdir(), 'orrery-bench-'))
  const env = {
    ...process.env,
    ORRERY_ADMIN_TOKEN: TOKEN,
    ORRERY_WORKER_TOKEN: WORKER_TOKEN,
    XDG_CACHE_HOME: join(tmpdir(), 'orrery-bench-cache'),
  }
  const store = options.dsn === null ? ['--store', 'embedded'] : ['--store', 'postgres', '--postgres-dsn', options.dsn]
  const own =
    options.workers === 0 ? ['--module', `bench=${FUNCTIONS}`, '--capacity', String(options.capacity)] : ['--no-worker']
  const extra = process.env['BENCH_SERVER_ARGS']?.split(' ') ?? []
  const server = spawn(
    process.execPath,
    [
      ...extra,
      MAIN,
      'up',
      ...store,
      ...own,
      '--port',
      String(options.port),
      '--data-dir',
      join(directory, 'server'),
      '--log-level',
      'warn',
    ],
    {
      env,
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  )
  const http = new BenchHttp(options.port, TOKEN, 200)
  await until('the server is up', async () => (await http.ask('GET', '/readyz')) !== null)
  const workers: ChildProcess[] = []
  const ready = async (n: number) => {
    const list = await http.ask<{ items?: unknown[] } | { state: string }[]>('GET', '/v1/workers')
    const items = (Array.isArray(list) ? list : (list.items ?? [])) as { state: string }[]
    return items.filter((w) => w.state === 'live').length >= n
  }
  const addWorker = async () => {
    const extraWorker = process.env['BENCH_WORKER_ARGS']?.split(' ') ?? []
    const worker = spawn(
      process.execPath,
      [
        ...extraWorker,
        MAIN,
        'worker',
        '--server',
        `http://127.0.0.1:${options.port}`,
        '--module',
        `bench=${FUNCTIONS}`,
        '--capacity',
        String(options.capacity),
        '--name',
        `w${workers.length}`,
        '--workspace',
        join(directory, `w${workers.length}`),
        '--log-level',
        'warn',
      ],
      { env, stdio: ['ignore', 'ignore', 'inherit'] },
    )
    workers.push(worker)
    await until('the worker is there', () =>
      ready(workers.filter((w) => w.exitCode === null && w.signalCode === null).length),
    )
    return worker
  }
  for (let i = 0; i < options.workers; i++) await addWorker()
  if (options.workers === 0) await until('the worker is there', () => ready(1))
  return {
    http,
    server,
    workers,
    directory,
    addWorker,
    put: async (workflow) => (await http.ask<{ hash: string }>('POST', '/v1/definitions', { workflow })).hash,
    async stop() {
      http.close()
      const all = [...workers, server].filter((p) => p.exitCode === null && p.signalCode === null)
      const ended = all.map((p) => new Promise((resolve) => p.once('exit', resolve)))
      for (const p of all) p.kill(process.env['BENCH_GRACEFUL'] ? 'SIGTERM' : 'SIGKILL')
      await Promise.all(ended)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export const workflow = (name: string, steps: object[], more: object = {}): object => ({
  apiVersion: 'orrery.dev/v1',
  kind: 'Workflow',
  metadata: { name },
  spec: { modules: { bench: './functions.ts' }, ...more, steps },
})

/** Share of the machine that processes outside the benchmark took since the last call: prefer rows near 0. */
export function rssMb(pid: number): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8')
    .split('\n')
    .find((l) => l.startsWith('VmRSS'))
  return Math.round(Number(line?.replace(/\D+/g, '') ?? 0) / 1024)
}
