import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createProcessBackend, createScriptedBackend, type Act, type Backend } from '../backends/index.ts'
import { seededRandom, silentLog, systemClock } from '../base/index.ts'
import { failureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import { loopHeartbeats } from './heartbeats.ts'
import { commandStep, ScriptedServer } from './scripted-server.ts'
import { createWorker, type Worker } from './worker.ts'

let root: string
let server: ScriptedServer
const workers: Worker[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'orrery-command-'))
  server = new ScriptedServer()
})
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()))
  await rm(root, { recursive: true, force: true })
})

function workerOf(
  backend: Backend,
  { stateDir = null, remember = () => {} }: { stateDir?: string | null; remember?: (value: string) => void } = {},
): Worker {
  const clock = systemClock
  const log = silentLog
  const worker = createWorker({
    lane: server,
    backend,
    modules: {},
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
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', BASE_ENV: 'yes' },
    remember,
  })
  workers.push(worker)
  return worker
}

const scripted = (acts: Record<string, Act[]>) =>
  createScriptedBackend({
    clock: systemClock,
    root: join(root, 'work'),
    script: (spec) => acts[spec.argv[0] ?? ''] ?? [],
  })

const stateDir = () => join(root, 'state')

async function until(condition: () => boolean): Promise<void> {
  const due = systemClock.monotonic() + 50_000
  while (!condition()) {
    if (systemClock.monotonic() > due) throw new Error('the state never came')
    await systemClock.sleep(2)
  }
}

/** The log as a reader sees it: in the order of its segments. */
const textOf = (name: string): string =>
  [...server.step(`run_1.${name}`).logs.values()]
    .toSorted((a, b) => a.index - b.index)
    .map((segment) => segment.text)
    .join('')

describe('how a command ends', () => {
  test.each<[string, Act[], object]>([
    ['nothing more', [], { kind: 'succeeded', output: { exitCode: 0 } }],
    ['an output', [{ output: { rows: 3 } }], { kind: 'succeeded', output: { rows: 3 } }],
    [
      'an exit code',
      [{ print: 'last words\n' }, { exit: 7 }],
      { kind: 'failed', failure: { code: 'step.exit_nonzero', evidence: { exitCode: 7, tail: 'last words\n' } } },
    ],
    ['a signal', [{ signal: 'SIGSEGV' }], { failure: { code: 'step.signaled', evidence: { signal: 'SIGSEGV' } } }],
    [
      'no status',
      [{ print: 'hm\n' }, { lose: true }],
      { failure: { code: 'backend.lost', evidence: { tail: 'hm\n' } } },
    ],
    [
      'never having run',
      [{ refuse: failureRecord('backend.executable_missing', 'looking for nope') }],
      { failure: { code: 'backend.executable_missing' } },
    ],
  ])('with %s', async (_, acts, end) => {
    server.add(commandStep('build', ['build']))
    await workerOf(scripted({ build: acts })).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject(end)
  })

  test('an output must fit its schema', async () => {
    server.add(commandStep('build', ['build'], { outputSchema: { type: 'object', required: ['id'] } }))
    await workerOf(scripted({ build: [{ print: 'built\n' }, { output: {} }] })).start()
    await until(() => server.allEnded)
    const failure = { code: 'output.schema_violation', evidence: { output: {}, tail: 'built\n' } }
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'failed', failure })
  })

  const rule = { retentionMs: 60_000, always: false, optional: false }
  const namesOf = (name: string) => server.files.get(`run_1.${name}`)?.map((file) => file.name)
  const withProcesses = () => createProcessBackend({ root: join(root, 'work'), clock: systemClock, log: silentLog })

  test('the files that it leaves are with the server before its end, whatever happens on the way', async () => {
    const backend = await withProcesses()
    const script = 'mkdir dist; head -c 600000 /dev/urandom > dist/big; echo small > dist/small; cp dist/small other'
    server.add(commandStep('build', ['sh', '-c', script], { artifacts: [{ ...rule, path: 'dist/*' }] }))
    // The first of each is lost on its way.
    const seen = new Set<string>()
    server.fate = (call) =>
      (call === 'artifacts' || call === 'chunk') && !seen.has(call) && seen.add(call) ? 'lose' : 'ok'
    let filesAtEnd: unknown
    server.pause = (call) => {
      if (call === 'report' && server.step('run_1.build').end) filesAtEnd ??= namesOf('build')
      return undefined
    }
    await workerOf(backend).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'succeeded' })
    expect(namesOf('build')).toEqual(['dist/big', 'dist/small'])
    const [big] = server.files.get('run_1.build') ?? []
    expect(Buffer.concat(server.contents.get(big?.sha256 ?? '') ?? [])).toHaveLength(600_000)
    expect(filesAtEnd ?? namesOf('build')).toEqual(['dist/big', 'dist/small'])
    await backend.close()
  })

  test('a pattern that fits nothing makes the step fail, and of one that failed only what is asked for always is kept', async () => {
    const backend = await withProcesses()
    server.add(commandStep('none', ['true'], { artifacts: [{ ...rule, path: 'dist/*' }] }))
    const both = [
      { ...rule, path: 'a' },
      { ...rule, path: 'b', always: true },
    ]
    server.add(commandStep('failed', ['sh', '-c', 'touch a b; exit 3'], { artifacts: both }))
    await workerOf(backend).start()
    await until(() => server.allEnded)
    expect(server.step('run_1.none').end).toMatchObject({
      kind: 'failed',
      failure: { code: 'artifact.none_found', evidence: { pattern: 'dist/*' } },
    })
    expect(server.step('run_1.failed').end).toMatchObject({ failure: { code: 'step.exit_nonzero' } })
    expect(namesOf('failed')).toEqual(['b'])
    await backend.close()
  })

  test('a canceled command is stopped and confirmed', async () => {
    server.add(commandStep('build', ['build']))
    await workerOf(scripted({ build: [{ hold: 'ever' }] })).start()
    await until(() => server.step('run_1.build').starts === 1)
    server.cancel('run_1.build', 'run.canceled')
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'canceled' })
  })

  test('a workspace that is kept is named with the failure', async () => {
    const backend = scripted({ build: [{ exit: 1 }] })
    server.add(commandStep('build', ['build'], { keepOnFailureMs: 60_000 }))
    const worker = workerOf(backend)
    await worker.start()
    await until(() => server.allEnded && worker.stats().held === 0)
    const kept = { path: expect.stringContaining(root), until: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) }
    expect(server.step('run_1.build').end).toMatchObject({ failure: { evidence: { kept } } })
  })

  test('the workspace is forgotten once the end is recorded, and not before', async () => {
    const backend = scripted({ build: [{ print: 'x' }] })
    server.fate = (call) => (call === 'report' ? 'cut' : 'ok')
    server.add(commandStep('build', ['build']))
    const worker = workerOf(backend)
    await worker.start()
    await until(() => worker.stats().outages > 0 && worker.stats().finished === 1)
    expect(await backend.recover()).toHaveLength(1)
    server.fate = () => 'ok'
    await until(() => server.allEnded && worker.stats().held === 0)
    expect(await backend.recover()).toHaveLength(0)
  })
})

describe('the output of a command', () => {
  test('arrives whole and in order over a link that loses answers, with few reports on the way', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => `${i} ${'x'.repeat(20_000)}\n`)
    let n = 0
    server.fate = (call) => (call === 'report' && ++n % 3 === 0 ? 'lose' : 'ok')
    server.add(commandStep('build', ['build']))
    await workerOf(scripted({ build: lines.map((print) => ({ print })) })).start()
    await until(() => server.allEnded)
    // Not `toBe`: a difference would print megabytes.
    expect(textOf('build') === lines.join('')).toBe(true)
    const most = Math.max(...server.requestsOf('report').map((request) => JSON.stringify(request).length))
    expect(most).toBeLessThan(2 * LIMITS.logBufferBytes)
  })
})

describe('a worker that starts again', () => {
  test('adopts its commands: no output is lost or sent twice, and the end is reported', async () => {
    const backend = scripted({ build: [{ print: 'one\n' }, { hold: 'gate' }, { print: 'two\n' }, { output: 'built' }] })
    server.add(commandStep('build', ['build']))
    const first = workerOf(backend, { stateDir: stateDir() })
    await first.start()
    await until(() => textOf('build') === 'one\n' && server.step('run_1.build').starts === 1)
    // The mark of the acknowledged segment is made when its answer arrives.
    await until(() => existsSync(join(stateDir(), 'outbox.jsonl')))
    await first.stop()
    const reborn = backend.reborn()
    const second = workerOf(reborn, { stateDir: stateDir() })
    await second.start()
    expect(server.requestsOf('register').at(-1)).toMatchObject({
      replaces: 'ses_1',
      held: [{ step: 'run_1.build', fence: 1 }],
    })
    reborn.release('gate')
    await until(() => server.allEnded && second.stats().held === 0)
    expect(server.step('run_1.build')).toMatchObject({ fence: 1, ends: 1, end: { kind: 'succeeded', output: 'built' } })
    expect(textOf('build')).toBe('one\ntwo\n')
    expect(await reborn.recover()).toHaveLength(0)
  })

  test('reports the end of a command that ended while it was away', async () => {
    const backend = scripted({ build: [{ hold: 'gate' }, { exit: 3 }] })
    server.add(commandStep('build', ['build']))
    const first = workerOf(backend, { stateDir: stateDir() })
    await first.start()
    await until(() => server.step('run_1.build').starts === 1)
    await first.stop()
    backend.release('gate')
    const second = workerOf(backend.reborn(), { stateDir: stateDir() })
    await second.start()
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject({ failure: { code: 'step.exit_nonzero' } })
  })

  test('stops the commands that the server gave to others', async () => {
    const backend = scripted({ build: [{ hold: 'gate' }] })
    server.add(commandStep('build', ['build']))
    const first = workerOf(backend, { stateDir: stateDir() })
    await first.start()
    await until(() => server.step('run_1.build').starts === 1)
    await first.stop()
    server.adopts = () => false
    const reborn = backend.reborn()
    const [handle] = await reborn.recover()
    const second = workerOf(reborn, { stateDir: stateDir() })
    await second.start()
    expect(await handle?.ended).toMatchObject({ kind: 'canceled' })
    await until(() => server.step('run_1.build').fence === 2)
    expect(server.step('run_1.build').ends).toBe(0)
  })

  test('a session swept under a running command leaves it to the next session to keep it', async () => {
    const backend = scripted({ build: [{ hold: 'gate' }] })
    server.add(commandStep('build', ['build']))
    const worker = workerOf(backend)
    await worker.start()
    await until(() => server.step('run_1.build').starts === 1)
    // Ended, but nothing was taken from it yet.
    server.sessions.set('ses_1', 'ended')
    server.wake()
    await until(() => worker.stats().session === 'ses_2')
    backend.release('gate')
    await until(() => server.allEnded)
    expect(server.step('run_1.build')).toMatchObject({ fence: 1, end: { kind: 'succeeded' } })
  })
})

describe('processes', () => {
  const create = () =>
    createProcessBackend({ root: join(root, 'work'), clock: systemClock, log: silentLog, idleExitMs: 200 })

  test('see their environment, write output and logs, and outlive their worker', async () => {
    const script =
      'echo $BASE_ENV $STEP_ENV $ORRERY_RUN_ID $ORRERY_STEP; while [ ! -e "$GATE" ]; do sleep 0.02; done; echo \'"done"\' > "$ORRERY_OUTPUT"'
    const step = commandStep('build', ['sh', '-c', script])
    if (step.work.kind === 'command') step.work.env['GATE'] = join(root, 'gate')
    server.add(step, commandStep('fail', ['sh', '-c', 'echo no >&2; exit 4']), commandStep('miss', ['no-such-program']))
    const backend = await create()
    const first = workerOf(backend, { stateDir: stateDir() })
    await first.start()
    await until(() => textOf('build') !== '' && server.step('run_1.fail').state === 'ended')
    await until(() => server.step('run_1.miss').state === 'ended')
    await first.stop()
    await backend.close()
    const second = await create()
    const worker = workerOf(second, { stateDir: stateDir() })
    await worker.start()
    await writeFile(join(root, 'gate'), '')
    await until(() => server.allEnded && worker.stats().held === 0)
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'succeeded', output: 'done' })
    expect(textOf('build')).toBe('yes yes run_1 build\n')
    expect(server.step('run_1.fail').end).toMatchObject({
      failure: { code: 'step.exit_nonzero', evidence: { exitCode: 4 } },
    })
    expect(server.step('run_1.miss').end).toMatchObject({ failure: { code: 'backend.executable_missing' } })
    await worker.stop()
    await second.close()
  })

  test('are killed with a worker that keeps no state', async () => {
    const backend = await create()
    server.add(commandStep('build', ['sleep', '600']))
    const worker = workerOf(backend)
    await worker.start()
    await until(() => server.step('run_1.build').starts === 1)
    await worker.stop()
    expect(await backend.recover()).toHaveLength(0)
    await backend.close()
  })
})

describe('secrets of a command', () => {
  const secret = 'hunter2/correct+horse'
  const base64 = Buffer.from(secret).toString('base64')
  const secrets = { TOKEN: secret }

  test('are in its environment, and in nothing that leaves the worker or lies on its disk', async () => {
    const backend = await createProcessBackend({ root: join(root, 'work'), clock: systemClock, log: silentLog })
    const gate = join(root, 'gate')
    const script = [
      'echo ${#TOKEN} characters',
      'echo "plain $TOKEN"; printf %s "$TOKEN" | base64',
      `until test -e ${gate}; do sleep 0.02; done`,
      'printf "{\\"got\\":\\"$TOKEN\\"}" > "$ORRERY_OUTPUT"; echo "$TOKEN" >&2; exit 3',
    ].join('\n')
    server.add(commandStep('build', ['sh', '-c', script], { secrets, keepOnFailureMs: 60_000 }))
    const worker = workerOf(backend, { stateDir: stateDir() })
    await worker.start()
    await until(() => textOf('build').includes('plain'))
    expect(filesWith(root, ['hunter', base64])).toEqual([])
    await writeFile(gate, '')
    await until(() => server.allEnded)
    expect(textOf('build')).toBe(`${secret.length} characters\nplain [secret]\n[secret]\n[secret]\n`)
    const { end } = server.step('run_1.build')
    expect(end).toMatchObject({
      failure: { code: 'step.exit_nonzero', evidence: { tail: expect.stringContaining('[secret]') } },
    })
    expect(JSON.stringify(end)).not.toMatch(/hunter/)
    expect(JSON.stringify(end)).not.toContain(base64)
    expect(filesWith(root, ['hunter', base64])).toEqual([])
    await backend.close()
  })

  test('are not told by a command that a later life of the worker adopts', async () => {
    const work = join(root, 'work')
    const first = await createProcessBackend({ root: work, clock: systemClock, log: silentLog })
    const gate = join(root, 'gate')
    const script = `echo began; until test -e ${gate}; do sleep 0.02; done; echo "$TOKEN"; printf '"%s"' "$TOKEN" > "$ORRERY_OUTPUT"`
    server.add(commandStep('build', ['sh', '-c', script], { secrets }))
    const before = workerOf(first, { stateDir: stateDir() })
    await before.start()
    await until(() => textOf('build').includes('began'))
    await before.stop()
    await first.close()
    const second = await createProcessBackend({ root: work, clock: systemClock, log: silentLog })
    await workerOf(second, { stateDir: stateDir() }).start()
    await writeFile(gate, '')
    await until(() => server.allEnded)
    expect(textOf('build')).toBe('began\n[secret]\n')
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'succeeded', output: '[secret]' })
    await second.close()
  })

  test('are taken out of a failure, whose code stays', async () => {
    const failure = failureRecord('backend.start_failed', `starting ${secret}`, {
      cause: failureRecord('backend.lost', `of ${base64}`),
      evidence: { at: secret },
      remediation: `Not ${secret}.`,
    })
    server.add(commandStep('build', ['build'], { secrets: { ...secrets, WORD: 'backend' } }))
    const remembered: string[] = []
    const remember = (value: string) => void remembered.push(value)
    await workerOf(scripted({ build: [{ refuse: failure }] }), { remember }).start()
    await until(() => server.allEnded)
    // For the log of the worker itself.
    expect(remembered).toEqual([secret, 'backend'])
    expect(server.step('run_1.build').end).toMatchObject({
      failure: {
        code: 'backend.start_failed',
        message: 'starting [secret]',
        evidence: { at: '[secret]' },
        remediation: 'Not [secret].',
      },
    })
    expect(JSON.stringify(server.step('run_1.build').end)).not.toContain(base64)
  })
})

/** Files below a directory, links left out, that hold one of these texts. */
function filesWith(dir: string, texts: string[]): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => texts.some((text) => readFileSync(path, 'utf8').includes(text)))
}
