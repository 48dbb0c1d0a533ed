import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { access, constants, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import type { JSONRPCMessage, Transport } from '@modelcontextprotocol/client'
import type { Clock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { Failure } from '../../domain/failure.ts'
import type { McpIsolation } from '../../domain/kinds/mcp-server.ts'
import { LIMITS } from '../../domain/limits.ts'
import { type findProgram as findProgramOfSystem, refuseUnstarted, sandboxed, SYSTEM_PATH } from '../tools/sandbox.ts'
import { placeOfProgram, type ToolPrograms } from '../tools/tool-programs.ts'

/** How the program ended, as far as is known. */
export interface ChildEnd {
  exitCode: number | null
  signal: string | null
  /** Last bytes of its standard error. */
  stderr: string
}

export interface ChildProgram {
  command: string
  args: readonly string[]
  /** Beside PATH, HOME and TMPDIR. */
  env: Readonly<Record<string, string>>
  /** Null: an empty directory of its own. */
  workdir: string | null
  isolation: McpIsolation
}

export interface ChildHost {
  /** Where programs are looked for that are kept from nothing; null: the usual places. */
  path: string | null
  programs: Pick<ToolPrograms, 'files'>
  clock: Clock
  /** How what a sandbox is made of is found; left out: as the system would. */
  find?: typeof findProgramOfSystem
}

export interface ChildTransport extends Transport {
  readonly pid: number | null
  /** Its presence tells the client that silence before the handshake means an old server, not an outage. */
  readonly stderr: null
  readonly end: ChildEnd
  /** Why the transport itself gave the program up; null when it did not. */
  readonly complaint: string | null
}

const NEWLINE = 10
const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin'
/** From util-linux: the kernel then kills the program when this process dies, however it dies. */
const GUARD = '/usr/bin/setpriv'
/** A process that died before the kernel was told so does not count any more: its program is not begun. What a shell sets for itself is not handed on. */
const STILL_OURS = 'unset PWD OLDPWD SHLVL; [ "$PPID" = "$0" ] && exec "$@"'

/**
 * A program that is spoken to over its standard streams, a message a line. It has a process group and a directory of its own and no environment but
 * what it was given; when it is closed, or this process dies, it ends. Throws `mcp.unreachable` where it cannot be begun, and
 * `tool.isolation_unavailable` or `tool.module_not_found` where it would have to run with less isolation than was asked for.
 */
export async function startChild(program: ChildProgram, host: ChildHost): Promise<ChildTransport> {
  if (program.isolation === 'sandbox') return startInSandbox(program, host)
  const home = await mkdtemp(join(tmpdir(), 'orrery-mcp-'))
  const cwd = program.workdir ?? home
  const env = { PATH: host.path ?? DEFAULT_PATH, HOME: home, TMPDIR: home, ...program.env }
  try {
    const file = await findProgram(program.command, cwd, env.PATH)
    const argv = await guarded([file, ...program.args])
    const child = await begin(program.command, argv, { cwd, env, stdio: 'pipe' })
    return speakWith(child, home, host.clock)
  } catch (error) {
    await rm(home, { recursive: true, force: true })
    throw error
  }
}

/** What it writes is in the /tmp of the sandbox and goes with it, so it needs no directory here. */
async function startInSandbox(program: ChildProgram, { programs, clock, find }: ChildHost): Promise<ChildTransport> {
  const place = (name: string): string =>
    placeOfProgram(name, programs, { inSandbox: true, field: 'spec.stdio.command' })
  const inside = [place(program.command), ...program.args.map((arg) => (arg.startsWith('./') ? place(arg) : arg))]
  const { file, args } = sandboxed({ files: programs.files, limits: null, argv: inside }, find)
  const env = { PATH: SYSTEM_PATH, HOME: '/tmp', TMPDIR: '/tmp', LANG: 'C.UTF-8', ...program.env }
  const argv = await guarded([file, ...args])
  // The fourth stream is where the sandbox says that it has begun the program.
  const stdio = ['pipe', 'pipe', 'pipe', 'pipe'] as const
  const child = await begin(program.command, argv, { cwd: '/', env, stdio: [...stdio] })
  const transport = speakWith(child, null, clock)
  try {
    refuseUnstarted(await statusOfSandbox(child), transport.end.stderr)
    return transport
  } catch (error) {
    await transport.close()
    throw error
  }
}

/** What the sandbox says until it has begun the program, or all that it said when it could not. */
function statusOfSandbox(child: ChildProcess): Promise<string> {
  // A pipe, as asked for above.
  const stream = child.stdio[3] as Readable
  let status = ''
  return new Promise((resolve) => {
    stream.on('error', () => {})
    stream.on('data', (chunk: Buffer) => {
      status += chunk.toString()
      if (status.includes('"child-pid"')) resolve(status)
    })
    // What it says of why is whole when its streams have ended.
    child.once('close', () => resolve(status))
  })
}

async function guarded(argv: string[]): Promise<string[]> {
  if (!(await isExecutable(GUARD))) return argv
  return [GUARD, '--pdeathsig', 'KILL', '--', '/bin/sh', '-c', STILL_OURS, `${process.pid}`, ...argv]
}

async function begin(
  command: string,
  [file = '', ...args]: string[],
  given: Pick<SpawnOptions, 'cwd' | 'env' | 'stdio'>,
): Promise<ChildProcess> {
  const child = spawn(file, args, { ...given, detached: true })
  await started(child, command)
  return child
}

async function findProgram(command: string, cwd: string, path: string): Promise<string> {
  if (!(await stat(cwd).catch(() => null))?.isDirectory())
    throw absent(command, { workdir: cwd }, 'Make the directory that spec.stdio.workdir names on the worker.')
  const places = command.includes('/')
    ? [resolve(cwd, command)]
    : path.split(delimiter).map((folder) => join(resolve(cwd, folder), command))
  for (const place of places) if (await isExecutable(place)) return place
  throw absent(command, { searched: places }, 'Install the program on the worker, or correct spec.stdio.command.')
}

const absent = (command: string, evidence: JsonObject, remediation: string): Failure =>
  new Failure('mcp.unreachable', `starting ${command}`, { evidence: { command, ...evidence }, remediation })

const isExecutable = async (place: string): Promise<boolean> => {
  const found = await stat(place).catch(() => null)
  if (!found?.isFile()) return false
  return access(place, constants.X_OK).then(
    () => true,
    () => false,
  )
}

const started = (child: ChildProcess, command: string): Promise<void> =>
  new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new Failure('mcp.unreachable', `starting ${command}`, { cause: error, evidence: { error: error.code ?? '' } }),
      ),
    )
  })

/** `home` is removed when it has ended; null: it has none here. */
function speakWith(child: ChildProcess, home: string | null, clock: Clock): ChildTransport {
  const { stdin, stdout, stderr } = child
  let tail = Buffer.alloc(0)
  let pending: Buffer[] = []
  let pendingBytes = 0
  let complaint: string | null = null
  let isStarted = false
  const early: JSONRPCMessage[] = []
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))

  const give = (line: Buffer): void => {
    const text = line.toString('utf8').trim()
    if (text === '') return
    let message: unknown
    try {
      message = JSON.parse(text)
    } catch {
      // Programs print to their standard output what belongs on the other one; a server is none the worse for it.
      return transport.onerror?.(new Error(`a line that is no message: ${text.slice(0, 200)}`))
    }
    if (typeof message !== 'object' || message === null) return
    // The client checks every message against the schemas of the protocol.
    if (isStarted) transport.onmessage?.(message as JSONRPCMessage)
    else early.push(message as JSONRPCMessage)
  }
  stdout?.on('data', (chunk: Buffer) => {
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...pending, chunk.subarray(from, at)])
      pending = []
      pendingBytes = 0
      from = at + 1
      give(line)
    }
    if (from < chunk.length) pending.push(chunk.subarray(from))
    pendingBytes += chunk.length - from
    if (pendingBytes <= LIMITS.mcpMessageBytes) return
    complaint ??= `a message is larger than ${LIMITS.mcpMessageBytes} bytes`
    pending = []
    pendingBytes = 0
    signalGroup(child, 'SIGKILL')
  })
  stderr?.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-LIMITS.tailBytes)
  })
  for (const stream of [stdin, stdout, stderr]) stream?.on('error', (error: Error) => transport.onerror?.(error))

  const transport: ChildTransport = {
    get pid() {
      return child.pid ?? null
    },
    stderr: null,
    get end() {
      return { exitCode: child.exitCode, signal: child.signalCode, stderr: tail.toString('utf8') }
    },
    get complaint() {
      return complaint
    },
    start: async () => {
      isStarted = true
      for (const message of early.splice(0)) transport.onmessage?.(message)
      if (child.exitCode !== null || child.signalCode !== null) transport.onclose?.()
    },
    send: (message) =>
      new Promise((resolve, reject) => {
        if (!stdin?.writable) return reject(new Error('the program has ended'))
        stdin.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(error) : resolve()))
      }),
    close: async () => {
      stdin?.end()
      // First the end of its input, as the protocol has it, then a request, then no question any more.
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        if (await endsWithin(ended, LIMITS.mcpStopMs, clock)) break
        signalGroup(child, signal)
      }
      // What left its group may hold its streams for as long as it likes: nobody waits for that.
      if (!(await endsWithin(ended, LIMITS.mcpStopMs, clock)))
        for (const stream of [stdin, stdout, stderr]) stream?.destroy()
      await ended
      // What the program started may live on in its group.
      signalGroup(child, 'SIGKILL')
      await cleared
    },
  }
  const cleared = ended.then(async () => {
    if (isStarted) transport.onclose?.()
    // A directory that stays behind is the system's to clear, as all of its kind.
    if (home !== null) await rm(home, { recursive: true, force: true }).catch(() => {})
  })
  return transport
}

async function endsWithin(ended: Promise<void>, ms: number, clock: Clock): Promise<boolean> {
  const enough = new AbortController()
  const late = clock.sleep(ms, enough.signal).then(
    () => false,
    () => false,
  )
  const isOver = await Promise.race([ended.then(() => true), late])
  enough.abort()
  return isOver
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // The group is gone.
  }
}
