import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Act, type Backend, createProcessBackend, createScriptedBackend } from '../backends/index.ts'
import { type Log, seededRandom, silentLog, systemClock } from '../base/index.ts'
import type { Assignment } from '../contract/exchange.ts'
import { LIMITS } from '../domain/limits.ts'
import { loopHeartbeats } from './heartbeats.ts'
import { commandStep, ScriptedServer } from './scripted-server.ts'
import { createWorker, type Worker } from './worker.ts'

let root: string
let server: ScriptedServer
let warned: { message: string; fields: unknown }[]
const workers: Worker[] = []
const backends: Backend[] = []

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'orrery-stages-'))
  server = new ScriptedServer()
  warned = []
})
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()))
  await Promise.all(backends.splice(0).map((backend) => backend.close()))
  await rm(root, { recursive: true, force: true })
})

type Extras = Partial<Extract<Assignment['work'], { kind: 'command' }>>

async function start(backend: Backend): Promise<Worker> {
  const log: Log = { ...silentLog, warn: (message, fields) => void warned.push({ message, fields }) }
  const clock = systemClock
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
    stateDir: null,
    startHeartbeats: loopHeartbeats({ lane: server, clock, log }),
    clock,
    random: seededRandom(1),
    log,
    env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
  })
  workers.push(worker)
  backends.push(backend)
  await worker.start()
  return worker
}

const scripted = (acts: Record<string, Act[]>) =>
  createScriptedBackend({
    clock: systemClock,
    root: join(root, 'work'),
    script: (spec) => acts[spec.argv[0] ?? ''] ?? [],
  })
const processes = () => createProcessBackend({ root: join(root, 'work'), clock: systemClock, log: silentLog })

async function until(condition: () => boolean): Promise<void> {
  const due = systemClock.monotonic() + 20_000
  while (!condition()) {
    if (systemClock.monotonic() > due) throw new Error('the state never came')
    await systemClock.sleep(2)
  }
}

/** The end that is reported of one step. */
async function endOf(acts: Record<string, Act[]>, extras: Extras, more: Partial<Assignment> = {}) {
  server.add(commandStep('build', ['build'], { extras, ...more }))
  await start(scripted(acts))
  await until(() => server.allEnded)
  return server.step('run_1.build').end
}

const text = () => [...server.step('run_1.build').logs.values()].map((s) => s.text).join('')

describe('a step with a set-up and a tear-down', () => {
  const tearDown = { commands: [['away'], ['last']], timeoutMs: 20_000 }

  test('that goes well is one step with one output, and its log has every command', async () => {
    const acts = { one: [{ print: 'ready\n' }], build: [{ output: { rows: 2 } }], away: [{ print: 'gone\n' }] }
    expect(await endOf(acts, { setUp: [['one']], tearDown })).toMatchObject({ kind: 'succeeded', output: { rows: 2 } })
    expect(text()).toBe(
      'set-up 1 of 1: one\nready\ncommand: build\ntear-down 1 of 2: away\ngone\ntear-down 2 of 2: last\n',
    )
  })

  test('fails of its set-up by name, with the exit code of each command that ran', async () => {
    const acts: Record<string, Act[]> = {
      two: [{ print: 'no disk\n' }, { exit: 7 }],
      build: [{ print: 'never' }],
      away: [{ exit: 2 }],
    }
    expect(await endOf(acts, { setUp: [['one'], ['two']], tearDown })).toMatchObject({
      kind: 'failed',
      failure: {
        code: 'step.exit_nonzero',
        message: 'running set-up 2 of step build of run_1',
        evidence: {
          stage: 'setUp',
          number: 2,
          exitCode: 7,
          tail: 'no disk\n',
          stages: [
            { stage: 'setUp', number: 1, exitCode: 0 },
            { stage: 'setUp', number: 2, exitCode: 7 },
            { stage: 'tearDown', number: 1, exitCode: 2 },
            { stage: 'tearDown', number: 2, exitCode: 0 },
          ],
        },
      },
    })
    expect(text()).not.toContain('never')
  })

  test('succeeds though its tear-down fails: the log of the step and that of the worker say so', async () => {
    const acts: Record<string, Act[]> = { away: [{ print: 'stuck\n' }, { exit: 5 }] }
    expect(await endOf(acts, { tearDown })).toMatchObject({ kind: 'succeeded', output: { exitCode: 0 } })
    expect(text()).toContain('stuck\ntear-down 1 of 2 exited with 5\n')
    expect(warned).toContainEqual({
      message: 'a tear-down failed; the outcome of its step stays',
      fields: expect.objectContaining({ number: 1, end: 'exited', exitCode: 5 }),
    })
  })

  test('keeps the failure of its command when its tear-down fails too', async () => {
    const acts: Record<string, Act[]> = { build: [{ exit: 3 }], away: [{ print: 'stuck\n' }, { exit: 5 }] }
    expect(await endOf(acts, { tearDown })).toMatchObject({
      failure: {
        code: 'step.exit_nonzero',
        evidence: { exitCode: 3, stage: 'command', stages: [{ exitCode: 3 }, { exitCode: 5, tail: 'stuck\n' }, {}] },
      },
    })
  })

  test('runs its tear-down after a cancel, and confirms the cancel after it', async () => {
    const backend = scripted({ build: [{ hold: 'ever' }], away: [{ print: 'gone\n' }, { hold: 'gate' }] })
    server.add(commandStep('build', ['build'], { extras: { tearDown } }))
    await start(backend)
    await until(() => server.step('run_1.build').starts === 1)
    server.cancel('run_1.build', 'run.canceled')
    await until(() => text().includes('gone\n'))
    expect(server.allEnded).toBe(false)
    backend.release('gate')
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject({ kind: 'canceled' })
  })

  test('is told to have lost its tear-down when nobody is left to run it', async () => {
    expect(await endOf({ build: [{ lose: true }] }, { tearDown: { commands: [], timeoutMs: 1 } })).toMatchObject({
      failure: { code: 'backend.lost', evidence: { tearDown: 'not known to have run' } },
    })
  })

  test('gives files asked for always after a set-up that failed, and wants no others', async () => {
    const rule = { retentionMs: 60_000, always: false, optional: false }
    const artifacts = [
      { ...rule, path: 'dist/*' },
      { ...rule, path: '*.log', always: true },
      { ...rule, path: '*.xml', always: true, optional: true },
    ]
    const extras = {
      setUp: [['sh', '-c', 'echo why > setup.log; exit 1']],
      tearDown: { commands: [['sh', '-c', 'echo more > tear.log']], timeoutMs: 20_000 },
    }
    server.add(commandStep('build', ['true'], { artifacts, extras }))
    await start(await processes())
    await until(() => server.allEnded)
    expect(server.step('run_1.build').end).toMatchObject({ failure: { code: 'step.exit_nonzero' } })
    expect(server.files.get('run_1.build')?.map((f) => f.name)).toEqual(['setup.log', 'tear.log'])
  })
})

describe('the output of a command', () => {
  const stdout = (as: 'json' | 'text'): Extras => ({ output: { from: 'stdout', as } })
  const file = (path: string, as: 'json' | 'text' = 'json'): Extras => ({ output: { from: 'file', path, as } })

  test.each<[string, Act[], Extras, object]>([
    ['all that it prints', [{ print: '{\n "rows": 2\n}\n' }], stdout('json'), { output: { rows: 2 } }],
    ['its last line', [{ print: 'working\n[1, 2]\n' }], stdout('json'), { output: [1, 2] }],
    ['its text, without the last line end', [{ print: ' v1.2\n' }], stdout('text'), { output: ' v1.2' }],
    ['no text', [], stdout('text'), { output: '' }],
    ['a file', [{ write: 'out/r.json', text: '{"ok":true}' }], file('out/r.json'), { output: { ok: true } }],
    ['the text of a file', [{ write: 'r.txt', text: 'a\nb\n' }], file('r.txt', 'text'), { output: 'a\nb\n' }],
    [
      'nothing that is JSON',
      [{ print: 'working\nall done\n' }],
      stdout('json'),
      { failure: { code: 'output.not_json', evidence: { raw: 'working\nall done\n', from: 'the standard output' } } },
    ],
    [
      'a file that is no JSON',
      [{ write: 'r', text: 'no' }],
      file('r'),
      { failure: { code: 'output.not_json', evidence: { raw: 'no', from: 'r' } } },
    ],
    [
      'a file that is missing',
      [],
      file('r'),
      { failure: { code: 'output.file_missing', evidence: { path: 'r', problem: 'it is not there' } } },
    ],
    [
      'too much',
      [{ print: 'x'.repeat(LIMITS.outputBytes + 1) }],
      stdout('text'),
      { failure: { code: 'output.too_large' } },
    ],
  ])('is %s', async (_, acts, extras, end) => {
    expect(await endOf({ build: acts }, extras)).toMatchObject(end)
  })

  test('must fit its schema, wherever it comes from', async () => {
    const end = await endOf({ build: [{ print: '"text"' }] }, stdout('json'), { outputSchema: { type: 'object' } })
    expect(end).toMatchObject({ failure: { code: 'output.schema_violation', evidence: { output: 'text' } } })
  })

  test('is the list of the files that it left, checked by its schema too', async () => {
    const rule = { retentionMs: 60_000, always: false, optional: true, path: 'dist/*' }
    const of = (name: string, script: string, more: Partial<Assignment> = {}) =>
      commandStep(name, ['sh', '-c', script], { artifacts: [rule], extras: { output: { from: 'artifacts' } }, ...more })
    const outputSchema = { type: 'array', minItems: 1 }
    server.add(of('build', 'mkdir dist; printf ab > dist/x', { outputSchema }), of('none', 'true', { outputSchema }))
    await start(await processes())
    await until(() => server.allEnded)
    const sha256 = 'fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603'
    expect(server.step('run_1.build').end).toMatchObject({ output: [{ name: 'dist/x', bytes: 2, sha256 }] })
    expect(server.step('run_1.none').end).toMatchObject({ failure: { code: 'output.schema_violation' } })
  })

  test('has no secrets, also from a file', async () => {
    const secrets = { TOKEN: 'hunter2-horse' }
    const end = await endOf({ build: [{ write: 'r', text: '{"t":"hunter2-horse"}' }] }, file('r'), { secrets })
    expect(end).toMatchObject({ output: { t: '[secret]' } })
  })
})

describe('variables that a step hands on', () => {
  test('are with the server before its end', async () => {
    // The answer to the first is lost.
    let lost = false
    server.fate = (call) => (call === 'exports' && !lost && (lost = true) ? 'lose' : 'ok')
    let atEnd: unknown
    server.pause = (call) => {
      if (call === 'report' && server.step('run_1.build').end) atEnd ??= server.exported.get('run_1.build')
      return undefined
    }
    await endOf({ one: [{ exports: 'A=1\n' }], build: [{ exports: 'B=2\n' }] }, { setUp: [['one']], exportEnv: true })
    expect(atEnd ?? server.exported.get('run_1.build')).toEqual({ A: '1', B: '2' })
  })

  test('of a step that fails are not handed on', async () => {
    await endOf({ build: [{ exports: 'B=2\n' }, { exit: 1 }] }, { exportEnv: true })
    expect(server.exported.size).toBe(0)
  })

  test.each([
    ['env.malformed', 'hunter2-horse\n'],
    ['env.refused', 'TOKEN=hunter2-horse\n'],
  ])('are refused with %s, and the secret is told nowhere', async (code, exports) => {
    const end = await endOf({ build: [{ exports }] }, { exportEnv: true }, { secrets: { TOKEN: 'hunter2-horse' } })
    expect(end).toMatchObject({ kind: 'failed', failure: { code } })
    expect(JSON.stringify(server.requests.filter((r) => r.call !== 'poll'))).not.toContain('hunter2')
  })
})
