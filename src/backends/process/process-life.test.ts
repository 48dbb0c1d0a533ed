import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLog, systemClock } from '../../base/index.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Backend, CommandSpec, OutputSegment } from '../backend.ts'
import { countTo, indexesOf, readAll, readSome, textOf } from '../backend.suite.ts'
import { createProcessBackend } from './process-backend.ts'

let root: string
let backend: Backend
const workers: ChildProcess[] = []

const create = () => createProcessBackend({ root, clock: systemClock, log: silentLog, idleExitMs: 300 })

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'orrery-process-'))
  backend = await create()
})
afterEach(async () => {
  for (const worker of workers.splice(0)) worker.kill('SIGKILL')
  for (const handle of await backend.recover()) {
    await handle.cancel()
    await handle.ended
    await handle.forget({ failed: false })
  }
  await backend.close()
  rmSync(root, { recursive: true, force: true })
})

const shell = (script: string, more: Partial<CommandSpec> = {}): CommandSpec => ({
  key: 'run_1.build@1',
  argv: ['sh', '-c', script],
  env: { PATH: '/usr/local/bin:/usr/bin:/bin', ROOT: root },
  stdin: null,
  workdir: null,
  timeoutMs: null,
  killGraceMs: 300,
  keepOnFailureMs: null,
  note: '',
  ...more,
})

async function eventually<T>(look: () => T | undefined | null | false, withinMs = 15_000): Promise<T> {
  const due = systemClock.monotonic() + withinMs
  for (;;) {
    const found = look()
    if (found !== undefined && found !== null && found !== false) return found
    if (systemClock.monotonic() > due) throw new Error(`not within ${withinMs} ms: ${look}`)
    await systemClock.sleep(10)
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ')
  } catch {
    return false
  }
}
const pidIn = (file: string) =>
  eventually(() => existsSync(join(root, file)) && Number(readFileSync(join(root, file), 'utf8')))

/** The shim host's pid: the process whose working directory is the root's `hosts`. */
const hostPid = (): number => {
  for (const entry of readdirSync('/proc')) {
    try {
      if (Number(entry) > 0 && readlinkSync(`/proc/${entry}/cwd`) === join(root, 'hosts')) return Number(entry)
    } catch {
      // Gone, or a file that is no process.
    }
  }
  throw new Error('no shim host')
}
const peakKb = (pid: number): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 'NaN')

/** A worker in a process of its own: starts the command and prints what it reads, one JSON line a segment. */
function startWorker(spec: CommandSpec): { worker: ChildProcess; seen: OutputSegment[] } {
  const program = join(root, 'worker.mjs')
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
  writeFileSync(
    program,
    `import { createProcessBackend } from ${url('./process-backend.ts')}
     import { silentLog, systemClock } from ${url('../../base/index.ts')}
     const backend = await createProcessBackend({ root: ${JSON.stringify(root)}, clock: systemClock, log: silentLog, idleExitMs: 300 })
     const handle = await backend.start(${JSON.stringify(spec)})
     for await (const segment of handle.output(0)) console.log(JSON.stringify(segment))`,
  )
  const worker = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'inherit'] })
  workers.push(worker)
  const seen: OutputSegment[] = []
  let rest = ''
  worker.stdout?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) seen.push(JSON.parse(line) as OutputSegment)
  })
  return { worker, seen }
}

const recoverOne = async () => (await backend.recover())[0] ?? expect.fail('nothing was recovered')

describe('a worker killed with kill -9', () => {
  test('loses neither output nor exit code, and repeats none', async () => {
    const { worker, seen } = startWorker(
      shell('i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo "line $i"; sleep 0.01; done; exit 7'),
    )
    await eventually(() => seen.length >= 5)
    worker.kill('SIGKILL')
    await eventually(() => worker.signalCode === 'SIGKILL' && worker.stdout?.readableEnded)
    const before = [...seen]

    const handle = await recoverOne()
    const all = [...before, ...(await readAll(handle, before.length))]
    expect(textOf(all)).toBe(
      countTo(200)
        .map((i) => `line ${i}\n`)
        .join(''),
    )
    expect(indexesOf(all)).toEqual(countTo(all.length))
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 7 })
  })

  test('does not stop the clock of the command', async () => {
    const { worker, seen } = startWorker(shell('echo begun; sleep 60', { timeoutMs: 700 }))
    await eventually(() => seen.length > 0)
    worker.kill('SIGKILL')
    await eventually(() => existsSync(join(root, 'attempts/run_1.build@1/exit.json')))
    expect(await (await recoverOne()).ended).toMatchObject({ kind: 'timed_out', timeoutMs: 700, signal: 'SIGTERM' })
  })

  test('holds no command up that printed more than it had read', async () => {
    const { worker, seen } = startWorker(shell(`head -c ${8 * LIMITS.logBufferBytes} /dev/zero | tr '\\0' x; exit 2`))
    await eventually(() => seen.length > 0)
    worker.kill('SIGKILL')
    const handle = await recoverOne()
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 2 })
    expect(textOf(await readAll(handle)).length).toBe(8 * LIMITS.logBufferBytes)
  })
})

test('a worker gives no orders to a shim host of another version, which lives on', async () => {
  const hosts = join(root, 'hosts')
  mkdirSync(hosts)
  const old = createServer((socket) => {
    socket.on('error', () => {}) // `close` follows
    socket.write('{"is":"hello"}\n')
  })
  await new Promise<void>((resolve) => old.listen(join(hosts, 'deadbeef00000000.sock'), resolve))
  try {
    const handle = await backend.start(shell('echo served'))
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0 })
    expect(readdirSync(hosts)).toContain('deadbeef00000000.sock')
  } finally {
    await new Promise((resolve) => old.close(resolve))
  }
})

describe('an attempt of several commands', () => {
  const sh = (script: string) => ['sh', '-c', script]
  const trace = () => readFileSync(join(root, 'trace'), 'utf8').trim().split('\n')

  test.each([
    ['set-up', 'gate-1'],
    ['command', 'gate-2'],
    ['tear-down', 'gate-3'],
  ])('whose worker is killed with kill -9 in its %s goes on: none runs twice, none is forgotten', async (_, held) => {
    // Says that it is there, and goes on when the gate is open.
    const gated = (name: string) =>
      `echo ${name} >> $ROOT/trace; echo ${name}; until [ -e $ROOT/${name} ]; do sleep 0.02; done`
    const { worker, seen } = startWorker(
      shell(`${gated('gate-2')}; exit 4`, {
        setUp: [sh('echo first >> $ROOT/trace'), sh(gated('gate-1'))],
        tearDown: { commands: [sh(gated('gate-3')), sh('echo last >> $ROOT/trace')], timeoutMs: 30_000 },
      }),
    )
    const open = (gate: string) => writeFileSync(join(root, gate), '')
    for (const gate of ['gate-1', 'gate-2', 'gate-3']) if (gate < held) open(gate)
    await eventually(() => seen.some((s) => s.text === `${held}\n`))
    worker.kill('SIGKILL')
    await eventually(() => worker.signalCode === 'SIGKILL')
    const handle = await recoverOne()
    for (const gate of ['gate-1', 'gate-2', 'gate-3']) open(gate)
    const end = await handle.ended
    expect(end).toMatchObject({ kind: 'exited', exitCode: 4 })
    expect(trace()).toEqual(['first', 'gate-1', 'gate-2', 'gate-3', 'last'])
    expect(end.stages?.map((s) => [s.stage, s.exitCode])).toEqual([
      ['setUp', 0],
      ['setUp', 0],
      ['command', 4],
      ['tearDown', 0],
      ['tearDown', 0],
    ])
  })

  test('that ended while nobody looked is found with all its ends', async () => {
    const { worker, seen } = startWorker(
      shell('echo on; until [ -e $ROOT/gate ]; do sleep 0.02; done', {
        exportEnv: true,
        setUp: [sh('echo A=1 >> $ORRERY_ENV')],
        tearDown: { commands: [sh('exit 6')], timeoutMs: 30_000 },
      }),
    )
    await eventually(() => seen.some((s) => s.text === 'on\n'))
    worker.kill('SIGKILL')
    writeFileSync(join(root, 'gate'), '')
    await eventually(() => existsSync(join(root, 'attempts/run_1.build@1/exit.json')))
    const end = await (await recoverOne()).ended
    expect(end).toMatchObject({ kind: 'exited', exitCode: 0, exported: { A: '1' } })
    expect(end.stages?.map((s) => s.exitCode)).toEqual([0, 0, 6])
  })

  test('keeps what a set-up left in the background until its end, and not longer', async () => {
    const handle = await backend.start(
      shell('kill -0 $(cat $ROOT/service) && echo served', {
        setUp: [sh('(while :; do echo tick; sleep 0.05; done) & echo $! > $ROOT/service')],
        tearDown: { commands: [sh('kill -0 $(cat $ROOT/service) && echo still')], timeoutMs: 30_000 },
      }),
    )
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0 })
    const segments = await readAll(handle)
    expect(textOf(segments)).toMatch(/served\n[^]*still\n/)
    expect(textOf(segments, 'system')).toContain('left processes behind')
    expect(isAlive(await pidIn('service'))).toBe(false)
  })

  test('may bring in its set-up what the command is', async () => {
    const tool = `printf '#!/bin/sh\\necho tool\\n' > tool; chmod +x tool`
    const handle = await backend.start(shell('', { argv: ['./tool'], setUp: [sh(tool)] }))
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0, tail: 'tool\n' })
    const none = await backend.start(
      shell('', {
        key: 'run_1.none@1',
        argv: ['./tool'],
        setUp: [sh('true')],
        tearDown: { commands: [sh('echo $ORRERY_OUTCOME')], timeoutMs: 30_000 },
      }),
    )
    const end = await none.ended
    expect(end).toMatchObject({ kind: 'not_started', failure: { code: 'backend.executable_missing' } })
    expect(end.stages?.map((s) => s.end)).toEqual(['exited', 'not_started', 'exited'])
    expect(textOf(await readAll(none))).toBe('failed\n')
  })
})

describe('a shim host killed with kill -9', () => {
  test('ends its attempts as lost, stops their processes, and the next start has a new host', async () => {
    const handle = await backend.start(
      shell('echo $$ > $ROOT/a; setsid sh -c "echo \\$\\$ > $ROOT/b; sleep 60" & echo on; sleep 60'),
    )
    const pids = [await pidIn('a'), await pidIn('b')]
    await readSome(handle, 1)
    process.kill(hostPid(), 'SIGKILL')
    expect(await handle.ended).toMatchObject({ kind: 'lost', tail: 'on\n' })
    expect(pids.filter(isAlive)).toEqual([])
    const next = await backend.start(shell('exit 3', { key: 'run_1.build@2' }))
    expect(await next.ended).toMatchObject({ kind: 'exited', exitCode: 3 })
  })

  test('is seen by a worker that comes later', async () => {
    const { worker, seen } = startWorker(shell('echo $$ > $ROOT/a; echo on; sleep 60'))
    const pid = await pidIn('a')
    await eventually(() => seen.length > 0)
    worker.kill('SIGKILL')
    process.kill(hostPid(), 'SIGKILL')
    const handle = await recoverOne()
    expect(await handle.ended).toMatchObject({ kind: 'lost', tail: 'on\n' })
    expect(handle.startedAt).toBeTypeOf('number')
    expect(isAlive(pid)).toBe(false)
  })

  test('ends by itself when nothing runs and nobody is connected', async () => {
    await (
      await backend.start(shell('exit 0'))
    ).ended
    const pid = hostPid()
    await backend.close()
    await eventually(() => !isAlive(pid))
    expect(readdirSync(join(root, 'hosts'))).toEqual([])
    backend = await create()
  })
})

describe('stopping', () => {
  test('reaches children that left the session, lost their parent or cleared their environment', async () => {
    const handle = await backend.start(
      shell(`setsid sh -c 'echo $$ > $ROOT/a; sleep 60' &
             (setsid sh -c 'echo $$ > $ROOT/b; sleep 60' &)
             env -i ROOT=$ROOT PATH=$PATH sh -c 'echo $$ > $ROOT/c; sleep 60' & sleep 60`),
    )
    const pids = [await pidIn('a'), await pidIn('b'), await pidIn('c')]
    await handle.cancel()
    expect(await handle.ended).toMatchObject({ kind: 'canceled' })
    expect(pids.filter(isAlive)).toEqual([])
  })

  test('kills what ignores TERM after the grace', async () => {
    const handle = await backend.start(shell(`trap 'echo no' TERM; echo on; while :; do sleep 0.05; done`))
    await readSome(handle, 1)
    await handle.cancel()
    expect(await handle.ended).toMatchObject({ kind: 'canceled', tail: expect.stringContaining('no\n') })
  })

  test('gives a command its grace to end well', async () => {
    const script = `trap 'sleep 0.1; echo tidy; exit 9' TERM; echo on; while :; do sleep 0.05; done`
    const handle = await backend.start(shell(script, { timeoutMs: 1_500, killGraceMs: 10_000 }))
    expect(await handle.ended).toMatchObject({
      kind: 'timed_out',
      exitCode: 9,
      signal: null,
      tail: expect.stringContaining('tidy\n'),
    })
  })

  test('takes away what a command left running, and says so', async () => {
    const handle = await backend.start(
      shell(`setsid sh -c 'echo $$ > $ROOT/a; sleep 60' & while [ ! -s $ROOT/a ]; do :; done; exit 1`),
    )
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 1 })
    expect(isAlive(await pidIn('a'))).toBe(false)
    expect(textOf(await readAll(handle), 'system')).toContain('left processes behind')
  })
})

describe('output', () => {
  test('200 MB without a newline are read in bounded memory, capped and counted', async () => {
    const total = 200 * 1024 * 1024
    const handle = await backend.start(shell(`head -c ${total} /dev/zero | tr '\\0' x`))
    const before = peakKb(process.pid)
    let bytes = 0
    let system = ''
    let last = 0
    for await (const segment of handle.output(0)) {
      expect(segment.index).toBe(++last)
      expect(Buffer.byteLength(segment.text)).toBeLessThanOrEqual(LIMITS.logSegmentBytes)
      if (segment.stream === 'system') system += segment.text
      else bytes += segment.text.length
    }
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0, tail: 'x'.repeat(LIMITS.tailBytes) })
    expect(bytes).toBe(LIMITS.logAttemptBytes)
    expect(system).toContain(`${total - bytes} bytes of output were dropped`)
    expect(peakKb(hostPid())).toBeLessThan(200 * 1024)
    expect(peakKb(process.pid) - before).toBeLessThan(100 * 1024)
  })

  test('is valid UTF-8 whatever the command prints', async () => {
    const handle = await backend.start(
      shell(
        `printf 'gr\\303'; sleep 0.2; printf '\\274n \\377 \\342\\202'; sleep 0.2; printf '\\254 '; printf '\\360\\237'`,
      ),
    )
    expect(textOf(await readAll(handle))).toBe('grün \ufffd € \ufffd')
  })

  test('of binary data has no gap and does not end early', async () => {
    const handle = await backend.start(shell('head -c 3000000 /dev/urandom; printf END'))
    const segments = await readAll(handle)
    expect(indexesOf(segments)).toEqual(countTo(segments.length))
    expect(textOf(segments).endsWith('END')).toBe(true)
  })

  test('can be written to /dev/stdout and /dev/stderr by name', async () => {
    const handle = await backend.start(
      shell('echo out > /dev/stdout; echo err > /dev/stderr; echo a | tee /dev/stderr'),
    )
    const segments = await readAll(handle)
    expect(textOf(segments)).toBe('out\na\n')
    expect(textOf(segments, 'stderr')).toBe('err\na\n')
  })

  test('is not read further than a reader that stands still lets it', async () => {
    const handle = await backend.start(
      shell(`head -c ${8 * LIMITS.logBufferBytes} /dev/zero | tr '\\0' x; : > $ROOT/done`),
    )
    const reader = handle.output(0)[Symbol.asyncIterator]()
    await reader.next()
    await systemClock.sleep(300) // nothing to wait for: the point is that nothing happens
    expect(existsSync(join(root, 'done'))).toBe(false)
    for (let r = await reader.next(); !r.done; r = await reader.next());
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0 })
  })

  test('10 MB of standard input arrive whole', async () => {
    const handle = await backend.start(shell('wc -c', { stdin: 'y'.repeat(10 * 1024 * 1024) }))
    expect(textOf(await readAll(handle)).trim()).toBe(String(10 * 1024 * 1024))
  })
})
