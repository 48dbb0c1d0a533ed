/**
 * The parent of every command of one worker root. A program of its own, in a session of its own: it lives on when the
 * worker is killed, enforces time-outs, records output and exit status, and tells whichever worker is connected. It
 * ends by itself when nothing runs and nobody is connected.
 *
 *   node shim-host.ts <id> <idle ms>      started in the `hosts` directory; descriptor 3 is closed once it listens
 */
import { closeSync, existsSync, rmSync, symlinkSync, writeSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { systemClock as clock } from '../../base/index.ts'
import { type AttemptPaths, attemptPaths, type ExitRecord, writeJson } from './layout.ts'
import { PipePool } from './pipe-pool.ts'
import { ShimCommand } from './shim-command.ts'
import { type HostNews, type HostOrder, onLines, sendLine, type StartOrder } from './shim-protocol.ts'

const READY_FD = 3
const SAVE_RETRY_MS = 1_000

const [id = '', idleMs = ''] = process.argv.slice(2)
const workers = new Map<Socket, number>()
/** Null: taken, but not started yet. An entry goes when the attempt's end is on the disk. */
const commands = new Map<string, ShimCommand | null>()
const pipes = new PipePool(id)
let workersSeen = 0
let idleSince = 0

const server = createServer((socket) => {
  const worker = ++workersSeen
  workers.set(socket, worker)
  idleSince++
  onLines<HostOrder>(socket, (order) => obey(order, socket, worker))
  socket.on('error', () => {}) // `close` follows
  socket.on('close', () => {
    workers.delete(socket)
    for (const command of commands.values()) command?.dropReaders((reader) => reader.startsWith(`${worker}/`))
    void exitWhenIdle()
  })
  sendLine(socket, { is: 'hello' })
})

function tell(news: HostNews): void {
  for (const socket of workers.keys()) sendLine(socket, news)
}

function obey(order: HostOrder, socket: Socket, worker: number): void {
  if (order.do === 'start') return void start(order)
  const { key } = order
  const command = commands.get(key)
  if (order.do === 'ask') {
    if (command === undefined) sendLine(socket, { is: 'unknown', key })
    else if (command !== null) sendLine(socket, { is: 'started', key, startedAt: command.startedAt })
    return // one that is starting is told to everyone soon
  }
  if (!command) return // ended meanwhile
  if (order.do === 'cancel') return command.stop('canceled')
  const reader = `${worker}/${order.reader}`
  if (order.do === 'detach') command.dropReaders((other) => other === reader)
  else command.setReader(reader, order.offset)
}

async function start(order: StartOrder): Promise<void> {
  const { key } = order
  const paths = attemptPaths(order.dir)
  try {
    // Whoever makes the claim decides on the attempt: a worker that found it unclaimed after a crash may have discarded it.
    symlinkSync(id, paths.claim)
    commands.set(key, null)
    const command = await ShimCommand.start(order, { clock, pipes, onOutput: () => tell({ is: 'output', key }) })
    commands.set(key, command)
    tell({ is: 'started', key, startedAt: command.startedAt })
    void command.ended.then((exit) => save(key, paths, exit))
  } catch (error) {
    commands.delete(key)
    const errno = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null
    tell({ is: 'refused', key, errno, message: error instanceof Error ? error.message : String(error) })
    void exitWhenIdle()
  }
}

async function save(key: string, paths: AttemptPaths, exit: ExitRecord): Promise<void> {
  for (let isTold = false; ; isTold = true) {
    const error = await writeJson(paths.exit, exit).catch((e: unknown) => e ?? 'unknown')
    if (!isTold) tell({ is: 'ended', key, exit })
    // Without its directory the attempt was forgotten, and nobody will ask.
    if (error === undefined || !existsSync(paths.dir)) break
    // The disk is full, most likely. A worker that is here has learnt the end from us; for a later one we stay and try on.
    if (!isTold) console.error('exit status not written', paths.exit, error)
    await clock.sleep(SAVE_RETRY_MS)
  }
  commands.delete(key)
  void exitWhenIdle()
}

async function exitWhenIdle(): Promise<void> {
  if (workers.size > 0 || commands.size > 0) return
  const since = ++idleSince
  await clock.sleep(Number(idleMs))
  if (since === idleSince && workers.size === 0 && commands.size === 0) exit()
}

function exit(): never {
  pipes.clear()
  rmSync(`${id}.sock`, { force: true })
  rmSync(`${id}.log`, { force: true })
  process.exit(0)
}

// A machine that shuts down sends TERM to everyone: the commands end by theirs, and their ends are still recorded here.
process.on('SIGTERM', () => {
  if (commands.size === 0) exit()
})
process.on('SIGINT', () => {})
process.on('SIGHUP', () => {})

// Relative, because the path of a socket may have no more than 107 bytes.
server.listen(`${id}.sock`, () => {
  try {
    writeSync(READY_FD, 'ready')
  } catch {
    // The worker died meanwhile; another may come.
  }
  closeSync(READY_FD)
  void exitWhenIdle()
})
