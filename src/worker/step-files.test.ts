import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Backend, createProcessBackend } from '../backends/index.ts'
import { seededRandom, silentLog, systemClock } from '../base/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { FunctionContext } from '../sdk/index.ts'
import { loopHeartbeats } from './heartbeats.ts'
import { commandStep, functionStep, ScriptedServer } from './scripted-server.ts'
import { createWorker, type Worker } from './worker.ts'

let root: string
let server: ScriptedServer
let backend: Backend
const workers: Worker[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'orrery-step-files-'))
  server = new ScriptedServer()
  backend = await createProcessBackend({
    root: join(root, 'work'),
    clock: systemClock,
    log: silentLog,
    idleExitMs: 300,
  })
})
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()))
  await backend.close()
  await rm(root, { recursive: true, force: true })
})

async function start(modules: Record<string, unknown> = {}, stateDir: string | null = null): Promise<Worker> {
  const clock = systemClock
  const log = silentLog
  const worker = createWorker({
    lane: server,
    backend,
    modules,
    name: 'w1',
    version: '0.1.0',
    capacity: 4,
    labels: {},
    namespaces: null,
    host: 'host',
    pid: 1,
    pidStart: null,
    stateDir,
    startHeartbeats: loopHeartbeats({ lane: server, clock, log }),
    clock,
    random: seededRandom(1),
    log,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
  })
  workers.push(worker)
  await worker.start()
  return worker
}

async function until(condition: () => boolean): Promise<void> {
  const due = systemClock.monotonic() + 20_000
  while (!condition()) {
    if (systemClock.monotonic() > due) throw new Error('the state never came')
    await systemClock.sleep(2)
  }
}

/** Makes the server have a file for a step; gives how it lists it. */
function give(name: string, at: string, content: Buffer, want = 0) {
  const sha256 = createHash('sha256').update(content).digest('hex')
  const pieces: Buffer[] = []
  for (let from = 0; from < content.length; from += LIMITS.artifactChunkBytes)
    pieces.push(content.subarray(from, from + LIMITS.artifactChunkBytes))
  server.contents.set(sha256, pieces)
  const file = { want, at, bytes: content.length, sha256 }
  server.given.set(`run_1.${name}`, [...(server.given.get(`run_1.${name}`) ?? []), file])
  return file
}

const wants = (...paths: string[]) => paths.map((path) => ({ from: 'build', path, optional: false }))
const endOf = async (name: string) => {
  await until(() => server.allEnded)
  return server.step(`run_1.${name}`).end
}
const big = Buffer.alloc(2 * LIMITS.artifactChunkBytes + 9, 'xyz\0')

describe('a command that is given files', () => {
  const use = (script: string, files = wants('**')) =>
    server.add(commandStep('use', ['sh', '-c', script], { extras: { files, output: { from: 'stdout', as: 'text' } } }))

  test('finds them in its workspace, whole, whatever happens on the way', async () => {
    give('use', 'in/big', big)
    give('use', 'in/deep/small', Buffer.from('hello'))
    give('use', 'empty', Buffer.alloc(0))
    const seen = new Set<string>()
    server.fate = (call) =>
      (call === 'wantedFiles' || call === 'wantedContent') && !seen.has(call) && seen.add(call) ? 'lose' : 'ok'
    use('sha256sum < in/big | cut -c 1-64; cat in/deep/small empty')
    await start()
    const sum = createHash('sha256').update(big).digest('hex')
    expect(await endOf('use')).toMatchObject({ kind: 'succeeded', output: `${sum}\nhello` })
  })

  test('does not run when one of them is missing, and the failure names the step and the pattern', async () => {
    give('use', 'in/a', Buffer.from('a'))
    use('touch ran', wants('a', 'dist/**'))
    await start()
    expect(await endOf('use')).toMatchObject({
      kind: 'failed',
      failure: {
        code: 'files.none_found',
        evidence: { from: 'build', pattern: 'dist/**' },
        remediation: expect.stringContaining('Step build left nothing that fits dist/**'),
      },
    })
  })

  test('does not mind one that may be missing', async () => {
    use('ls -A', [{ from: 'build', path: '*', optional: true }])
    await start()
    expect(await endOf('use')).toMatchObject({ kind: 'succeeded', output: '' })
  })

  test('does not run with a file that is not the one that was left', async () => {
    const file = give('use', 'a', Buffer.from('right'))
    server.contents.set(file.sha256, [Buffer.from('wrong')])
    use('touch ran')
    await start()
    expect(await endOf('use')).toMatchObject({
      failure: { code: 'artifact.checksum_mismatch', evidence: { name: 'a', sha256: file.sha256 } },
    })
  })

  test('says so when a file is gone by the time that it is read', async () => {
    const file = give('use', 'a', Buffer.from('right'))
    server.contents.delete(file.sha256)
    use('touch ran')
    await start()
    expect(await endOf('use')).toMatchObject({ failure: { code: 'artifact.not_found', evidence: { name: 'a' } } })
  })

  test('is given no more than so many', async () => {
    const content = Buffer.from('x')
    for (let i = 0; i <= LIMITS.artifactsPerStepMax; i++) give('use', `f${i}`, content)
    use('true')
    await start()
    expect(await endOf('use')).toMatchObject({ failure: { code: 'files.too_many' } })
  })

  test.each(['../out', '/tmp/out', 'a/../../out'])('is never given a file at %s', async (at) => {
    give('use', at, Buffer.from('x'))
    use('true')
    await start()
    expect(await endOf('use')).toMatchObject({ failure: { code: 'internal.bug' } })
  })

  test('runs again when its worker stopped while they came', async () => {
    give('use', 'a', Buffer.from('x'))
    const asked = Promise.withResolvers<void>()
    server.pause = (call) => {
      if (call !== 'wantedContent') return undefined
      asked.resolve()
      return new Promise(() => {})
    }
    use('cat a')
    const first = await start({}, join(root, 'state'))
    await asked.promise
    await first.stop()
    await backend.close()
    server.pause = () => undefined
    backend = await createProcessBackend({
      root: join(root, 'work'),
      clock: systemClock,
      log: silentLog,
      idleExitMs: 300,
    })
    await start({}, join(root, 'state'))
    expect(await endOf('use')).toMatchObject({ kind: 'succeeded', output: 'x' })
  })

  test('that is canceled while they come is canceled', async () => {
    give('use', 'a', Buffer.from('x'))
    const gate = Promise.withResolvers<void>()
    server.pause = (call) => (call === 'wantedFiles' ? gate.promise : undefined)
    use('true')
    await start()
    await until(() => server.requests.some((r) => r.call === 'wantedFiles'))
    server.cancel('run_1.use', 'run.canceled')
    await until(() => server.step('run_1.use').cancel === null)
    gate.resolve()
    expect(await endOf('use')).toMatchObject({ kind: 'canceled' })
  })
})

describe('a function', () => {
  const call = (run: (input: unknown, context: FunctionContext) => unknown, files = wants('**')) => {
    server.add(functionStep('use', 'm.run', { files }))
    return start({ m: { run } })
  }

  test('reads the files that it is given', async () => {
    give('use', 'in/big', big)
    await call(async (_, { files }) => {
      const content = await files.read('in/big')
      return { given: files.given.map((f) => f.name), same: big.equals(content) }
    })
    expect(await endOf('use')).toMatchObject({ output: { given: ['in/big'], same: true } })
  })

  test('does not begin when one is missing', async () => {
    let began = false
    await call(() => (began = true))
    expect(await endOf('use')).toMatchObject({ failure: { code: 'files.none_found', evidence: { from: 'build' } } })
    expect(began).toBe(false)
  })

  test('that reads another file fails with its name and what was probably meant', async () => {
    give('use', 'report.json', Buffer.from('{}'))
    await call((_, { files }) => files.read('reprot.json'))
    expect(await endOf('use')).toMatchObject({
      failure: { code: 'artifact.not_found', evidence: { name: 'reprot.json', nearest: 'report.json' } },
    })
  })

  test('leaves files, which are with the server when it goes on', async () => {
    let lost = false
    server.fate = (name) => (name === 'chunk' && !lost && (lost = true) ? 'lose' : 'ok')
    server.add(functionStep('use', 'm.run'))
    await start({
      m: {
        run: async (_: unknown, { files }: FunctionContext) => {
          const file = await files.put('out/big', big, { retentionMs: 5_000 })
          return { file, there: server.files.get('run_1.use') }
        },
      },
    })
    const sha256 = createHash('sha256').update(big).digest('hex')
    expect(await endOf('use')).toMatchObject({
      output: {
        file: { name: 'out/big', bytes: big.length, sha256 },
        there: [{ name: 'out/big', bytes: big.length, sha256, retentionMs: 5_000 }],
      },
    })
    expect(Buffer.concat(server.contents.get(sha256) ?? []).equals(big)).toBe(true)
  })

  test.each(['../x', '/x', 'a//b', '', 'x'.repeat(LIMITS.artifactNameChars + 1)])(
    'cannot leave a file named %s',
    async (name) => {
      server.add(functionStep('use', 'm.run'))
      await start({ m: { run: (_: unknown, { files }: FunctionContext) => files.put(name, 'x') } })
      expect(await endOf('use')).toMatchObject({ failure: { code: 'artifact.unreadable' } })
      expect(server.files.size).toBe(0)
    },
  )
})
