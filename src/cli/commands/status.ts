import { formatDuration } from '../../base/index.ts'
import type { RunSummary, StatusView } from '../../contract/api-types.ts'
import type { CliDeps } from '../deps.ts'
import { Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { Screen } from '../screen.ts'
import { tableLines } from '../table.ts'
import { fitLine, type Line, printableLine, span, type Style } from '../terminal-text.ts'
import { styleOfRun } from '../tree.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface TopFlags extends ServerFlags {
  interval: string
}

const RUNS_SHOWN = 20
const INTERVAL_MIN_S = 1
const INTERVAL_MAX_S = 3_600

/** `orrery status`: what a server is doing now, and what keeps it from doing more. Exit code 1 when steps wait that nobody serves. */
export async function showStatus(deps: CliDeps, output: Output, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const status = await client.getStatus()
  if (output.isData) output.printData(status)
  else output.print(...statusLines(status, client.address, output.width))
  return status.queues.some((queue) => queue.workers === 0) ? 1 : 0
}

/** `orrery top`: the same and the live runs, drawn again and again until interrupted; once when it is not looked at. */
export async function showTop(deps: CliDeps, output: Output, flags: TopFlags): Promise<number> {
  const seconds = Number(flags.interval)
  if (!(seconds >= INTERVAL_MIN_S && seconds <= INTERVAL_MAX_S)) {
    throw usageFailure(
      `--interval ${flags.interval} is not a number of seconds`,
      `Write seconds from ${INTERVAL_MIN_S} to ${INTERVAL_MAX_S}.`,
    )
  }
  const client = await connect(deps, flags)
  const look = async () => {
    const [status, runs] = await Promise.all([
      client.getStatus(),
      client.listRuns({ states: ['pending', 'running', 'waiting'], limit: RUNS_SHOWN }),
    ])
    return { status, runs: runs.items }
  }
  if (output.isData) {
    output.printData(await look())
    return 0
  }
  const lines = ({ status, runs }: Awaited<ReturnType<typeof look>>, width: number): Line[] => [
    ...statusLines(status, client.address, width),
    [],
    ...runLines(runs, deps.clock.now(), width),
  ]
  if (!deps.stdout.isTty) {
    output.print(...lines(await look(), output.width))
    return 0
  }
  const interrupts = new Interrupts(deps)
  const stop = new AbortController()
  void interrupts.first.then(() => stop.abort())
  const screen = new Screen(deps)
  try {
    while (!stop.signal.aborted) {
      const width = Math.max(10, deps.stdout.columns - 1)
      const all = lines(await look(), width)
      screen.draw(all.slice(0, Math.max(2, deps.stdout.rows - 1)).map((line) => fitLine(line, width)))
      await deps.clock.sleep(seconds * 1_000, stop.signal).catch(() => {}) // rejects when it was interrupted
    }
    return 0
  } finally {
    screen.close()
    interrupts.stop()
  }
}

function statusLines(status: StatusView, address: string, width: number): Line[] {
  const { server, runs, workers } = status
  const live = runs.pending + runs.running + runs.waiting
  const lost = workers.lost > 0 ? [span(`  ${workers.lost} lost`, 'bad')] : []
  const draining = workers.draining > 0 ? [span(`  ${workers.draining} draining`, 'warn')] : []
  const others = server.servers > 1 ? `  ${server.servers} servers` : ''
  return [
    [span('server   '), span(address, 'bold'), span(`  ${server.version}  store ${server.store}${others}`, 'dim')],
    [
      span('runs     '),
      span(`${live} live`),
      span(`  ${runs.running} running  ${runs.waiting} waiting  ${runs.pending} pending`, 'dim'),
    ],
    [
      span('workers  '),
      span(`${workers.live} live`, workers.live === 0 ? 'warn' : undefined),
      span(`  ${workers.held} of ${workers.capacity} slots taken`, 'dim'),
      ...draining,
      ...lost,
    ],
    ...queueLines(status, address, width),
  ]
}

function queueLines({ queues }: StatusView, address: string, width: number): Line[] {
  if (queues.length === 0) return [[span('queues   '), span('nothing waits for a worker', 'dim')]]
  const columns = [
    { title: 'QUEUE' },
    { title: 'STEPS', align: 'right' as const },
    { title: 'OLDEST', align: 'right' as const },
    { title: 'WORKERS', align: 'right' as const },
  ]
  const rows = queues.map((queue) => [
    { text: printableLine(nameOfQueue(queue)) },
    { text: String(queue.queued) },
    { text: formatDuration(queue.oldestMs) },
    { text: String(queue.workers), ...(queue.workers === 0 ? { style: 'bad' as Style } : {}) },
  ])
  const unserved = queues.filter((queue) => queue.workers === 0)
  return [
    [],
    ...tableLines(columns, rows, { width }),
    ...(unserved.length === 0
      ? []
      : [
          [],
          [span(`${unserved.length} of them have no worker that may take their steps:`, 'warn')],
          [span('  orrery workers list', 'accent'), span('  shows what each offers', 'dim')],
          [span(`  ${workerCommandFor(unserved[0], address)}`, 'accent')],
        ]),
  ]
}

type Queue = StatusView['queues'][number]

/** What a worker must offer, in one line. */
function nameOfQueue(queue: Queue): string {
  const labels = Object.entries(queue.labels).map(([key, value]) => `${key}=${value}`)
  const what = queue.module === null ? queue.backend : `${queue.backend} ${queue.module}`
  return [queue.namespace, what, ...labels].join('  ')
}

function workerCommandFor(queue: Queue | undefined, address: string): string {
  const labels = Object.entries(queue?.labels ?? {}).map(
    ([key, value]) => ` --label ${printableLine(`${key}=${value}`)}`,
  )
  const module = queue?.module ? ` --module ${printableLine(queue.module)}=PATH` : ''
  return `orrery worker --server ${address}${module}${labels.join('')}`
}

function runLines(runs: readonly RunSummary[], nowMs: number, width: number): Line[] {
  if (runs.length === 0) return [[span('no live runs', 'dim')]]
  const columns = [
    { title: 'RUN' },
    { title: 'WORKFLOW' },
    { title: 'STATE' },
    { title: 'STEPS', align: 'right' as const },
    { title: 'AGE', align: 'right' as const },
  ]
  const rows = runs.map((run) => [
    { text: run.id },
    { text: printableLine(run.workflow) },
    { text: run.state, style: styleOfRun(run.state) },
    { text: `${run.steps.total - run.steps.open}/${run.steps.total}` },
    { text: formatDuration(Math.max(0, nowMs - Date.parse(run.createdAt))) },
  ])
  return tableLines(columns, rows, { width })
}
