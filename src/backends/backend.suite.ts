import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Backend, CommandHandle, CommandSpec, EndOfCommand, OutputSegment } from './backend.ts'
import type { Act } from './scripted.ts'

/** What a backend provides so that the contract can be tried on it. */
export interface BackendHarness {
  create(root: string): Promise<Backend>
  /** A command line that does these acts. */
  argvOf(acts: Act[], root: string): string[]
  /** Lets commands that hold on `name` go on. */
  release(name: string, root: string): void
  /** A worker that starts again after the first was closed. */
  reborn(backend: Backend, root: string): Promise<Backend>
}

export async function readAll(handle: CommandHandle, after = 0): Promise<OutputSegment[]> {
  const segments: OutputSegment[] = []
  for await (const segment of handle.output(after)) segments.push(segment)
  return segments
}

export const textOf = (segments: OutputSegment[], stream: OutputSegment['stream'] = 'stdout'): string =>
  segments
    .filter((s) => s.stream === stream)
    .map((s) => s.text)
    .join('')

export const indexesOf = (segments: OutputSegment[]): number[] => segments.map((s) => s.index)

/** 1 … n, the only indexes that a log without gap or repeat may have. */
export const countTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

/** The promise of `Backend`, tried on an implementation. */
export function describeBackend(name: string, harness: BackendHarness): void {
  describe(`the ${name} backend`, () => {
    let root: string
    let backend: Backend

    beforeEach(async () => {
      root = mkdtempSync(join(tmpdir(), 'orrery-backend-'))
      backend = await harness.create(root)
    })
    afterEach(async () => {
      for (const handle of await backend.recover()) {
        await handle.cancel()
        await handle.ended
        await handle.forget({ failed: false })
      }
      await backend.close()
      rmSync(root, { recursive: true, force: true })
    })

    const specOf = (acts: Act[], more: Partial<CommandSpec> = {}): CommandSpec => ({
      key: 'run_1.build@1',
      argv: harness.argvOf(acts, root),
      env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
      stdin: null,
      workdir: null,
      timeoutMs: null,
      killGraceMs: 200,
      keepOnFailureMs: null,
      note: 'a note',
      ...more,
    })
    const runToEnd = async (acts: Act[], more: Partial<CommandSpec> = {}): Promise<EndOfCommand> =>
      (await backend.start(specOf(acts, more))).ended

    test('a command gives its output in order and its exit code', async () => {
      const handle = await backend.start(
        specOf([
          { print: 'one\n' },
          { print: 'oops\n', to: 'stderr' },
          { sleepMs: 100 },
          { print: 'two\n' },
          { exit: 3 },
        ]),
      )
      expect(handle.startedAt).toBeTypeOf('number')
      expect(handle.note).toBe('a note')
      const segments = await readAll(handle)
      expect(textOf(segments)).toBe('one\ntwo\n')
      expect(textOf(segments, 'stderr')).toBe('oops\n')
      expect(indexesOf(segments)).toEqual(countTo(segments.length))
      const end = await handle.ended
      expect(end).toMatchObject({ kind: 'exited', exitCode: 3, outputFile: null })
      expect(end.endedAt).toBeGreaterThanOrEqual(handle.startedAt ?? Number.NaN)
    })

    test('the output file is named when the command left one', async () => {
      const end = await runToEnd([{ output: { rows: 2 } }])
      expect(end).toMatchObject({ kind: 'exited', exitCode: 0 })
      const file = end.kind === 'exited' ? end.outputFile : null
      expect(JSON.parse(readFileSync(file ?? '', 'utf8'))).toEqual({ rows: 2 })
    })

    test('a command that kills itself ends by that signal', async () => {
      expect(await runToEnd([{ print: 'so long\n' }, { signal: 'SIGKILL' }])).toMatchObject({
        kind: 'signaled',
        signal: 'SIGKILL',
        tail: 'so long\n',
      })
    })

    test('standard input and environment reach the command', async () => {
      const handle = await backend.start(
        specOf([{ printStdin: true }, { printEnv: 'COLOUR' }, { printEnv: 'HOME' }], {
          stdin: 'from a file\n',
          env: { PATH: '/usr/bin:/bin', COLOUR: 'blue' },
        }),
      )
      expect(textOf(await readAll(handle))).toBe('from a file\nblue')
    })

    test('secrets are in nothing that a command printed or left, however it wrote them', async () => {
      const secret = 'hunter2/correct+horse'
      const base64 = Buffer.from(`x${secret}y`).toString('base64')
      const acts: Act[] = [
        { print: `a ${secret.slice(0, 9)}` },
        { sleepMs: 100 },
        { print: `${secret.slice(9)} b\n${encodeURIComponent(secret)}\n` },
        { print: `${base64}\n`, to: 'stderr' },
        { printEnv: 'TOKEN' },
        { output: { got: secret, list: [base64] } },
        { exit: 3 },
      ]
      const env = { PATH: '/usr/local/bin:/usr/bin:/bin', TOKEN: secret }
      const handle = await backend.start(specOf(acts, { env, redact: [secret] }))
      const segments = await readAll(handle)
      const end = await handle.ended
      expect(textOf(segments)).toBe('a [secret] b\n[secret]\n[secret]')
      const output = readFileSync((end.kind === 'exited' && end.outputFile) || '', 'utf8')
      expect(JSON.parse(output)).toMatchObject({ got: '[secret]' })
      for (const text of [textOf(segments, 'stderr'), end.kind === 'exited' ? end.tail : '', output]) {
        expect(text).toContain('[secret]')
        expect(text).not.toContain(base64.slice(2, -4))
        expect(text).not.toMatch(/hunter|horse/)
      }
    })

    test('a second start of a key finds the first', async () => {
      const spec = specOf([{ print: 'once\n' }, { hold: 'gate' }])
      const [first, second] = await Promise.all([backend.start(spec), backend.start(spec)])
      harness.release('gate', root)
      const third = await backend.start(spec)
      await first.ended
      for (const handle of [first, second, third]) expect(textOf(await readAll(handle))).toBe('once\n')
    })

    test('two commands at once do not mix', async () => {
      const a = await backend.start(specOf([{ print: 'a' }, { hold: 'gate' }, { exit: 1 }], { key: 'run_1.a@1' }))
      const b = await backend.start(specOf([{ print: 'b' }, { hold: 'gate' }, { exit: 2 }], { key: 'run_1.b@1' }))
      harness.release('gate', root)
      expect(textOf(await readAll(a))).toBe('a')
      expect(textOf(await readAll(b))).toBe('b')
      expect([await a.ended, await b.ended]).toMatchObject([{ exitCode: 1 }, { exitCode: 2 }])
      expect(a.workspace).not.toBe(b.workspace)
    })

    test('a canceled command says so, and twice is safe', async () => {
      const handle = await backend.start(specOf([{ print: 'busy\n' }, { hold: 'never' }]))
      const [first] = await readSome(handle, 1)
      expect(first?.text).toBe('busy\n')
      await Promise.all([handle.cancel(), handle.cancel()])
      expect(await handle.ended).toMatchObject({ kind: 'canceled', tail: 'busy\n' })
      await handle.cancel()
    })

    test('a command that runs too long is timed out', async () => {
      expect(await runToEnd([{ hold: 'never' }], { timeoutMs: 150 })).toMatchObject({
        kind: 'timed_out',
        timeoutMs: 150,
        signal: 'SIGTERM',
      })
    })

    test('the tail is the end of the output', async () => {
      const line = `${'x'.repeat(99)}\n`
      const end = await runToEnd([...countTo(60).map(() => ({ print: line })), { print: 'last words\n' }, { exit: 1 }])
      const tail = 'tail' in end ? end.tail : ''
      expect(tail.endsWith('last words\n')).toBe(true)
      expect(Buffer.byteLength(tail)).toBe(LIMITS.tailBytes)
    })

    test('reading goes on after the last segment that was seen', async () => {
      const handle = await backend.start(specOf([{ print: 'one\n' }, { hold: 'gate' }, { print: 'two\n' }]))
      const seen = await readSome(handle, 1)
      harness.release('gate', root)
      const rest = await readAll(handle, 1)
      expect(textOf([...seen, ...rest])).toBe('one\ntwo\n')
      expect(indexesOf([...seen, ...rest])).toEqual([1, 2])
    })

    test('a worker that starts again finds what runs and what ended', async () => {
      const running = specOf([{ print: 'one\n' }, { hold: 'gate' }, { print: 'two\n' }, { exit: 4 }], {
        key: 'run_1.x@1',
      })
      const first = await backend.start(running)
      await readSome(first, 1)
      await (
        await backend.start(specOf([{ print: 'done\n' }, { exit: 5 }], { key: 'run_1.y@1' }))
      ).ended
      await backend.close()

      backend = await harness.reborn(backend, root)
      const found = new Map((await backend.recover()).map((h) => [h.key, h]))
      expect([...found.keys()].sort()).toEqual(['run_1.x@1', 'run_1.y@1'])
      const x = found.get('run_1.x@1') ?? expect.fail('x was not found')
      const y = found.get('run_1.y@1') ?? expect.fail('y was not found')
      expect(x).toMatchObject({ note: 'a note', startedAt: first.startedAt })
      expect(await y.ended).toMatchObject({ kind: 'exited', exitCode: 5, tail: 'done\n' })
      expect(textOf(await readAll(y))).toBe('done\n')

      const again = await backend.start(running)
      harness.release('gate', root)
      expect(textOf(await readAll(x, 1))).toBe('two\n')
      expect(await x.ended).toMatchObject({ kind: 'exited', exitCode: 4 })
      expect(textOf(await readAll(again))).toBe('one\ntwo\n')
    })

    describe('a set-up and a tear-down', () => {
      const stagesOf = (end: EndOfCommand) =>
        end.stages?.map((s) => `${s.stage} ${s.number} ${s.end}${s.exitCode === null ? '' : ` ${s.exitCode}`}`)
      const argvs = (...lists: Act[][]) => lists.map((acts) => harness.argvOf(acts, root))
      const tearDown = (...lists: Act[][]) => ({ commands: argvs(...lists), timeoutMs: 20_000 })

      test('run round the command in one workspace, each with a line that names it', async () => {
        const handle = await backend.start(
          specOf([{ printEnv: 'ORRERY_STAGE' }, { print: ' main\n' }], {
            setUp: argvs([{ print: 'first\n' }], [{ print: 'second\n' }]),
            tearDown: tearDown([{ print: 'away\n' }]),
          }),
        )
        const segments = await readAll(handle)
        const end = await handle.ended
        expect(textOf(segments)).toBe('first\nsecond\ncommand main\naway\n')
        expect(indexesOf(segments)).toEqual(countTo(segments.length))
        const told = textOf(segments, 'system').split('\n')
        expect(told.map((line) => line.split(':')[0])).toEqual([
          'set-up 1 of 2',
          'set-up 2 of 2',
          'command',
          'tear-down 1 of 1',
          '',
        ])
        // Each line stands before what its command prints.
        expect(segments.map((s) => s.text).join('')).toMatch(
          /set-up 1.*\n+first\nset-up 2[^]*second\ncommand:[^]*main\ntear-down[^]*away/,
        )
        expect(end).toMatchObject({ kind: 'exited', exitCode: 0 })
        expect(stagesOf(end)).toEqual([
          'setUp 1 exited 0',
          'setUp 2 exited 0',
          'command 1 exited 0',
          'tearDown 1 exited 0',
        ])
      })

      test('a set-up that fails ends the attempt: nothing but the tear-down comes after it', async () => {
        const handle = await backend.start(
          specOf([{ print: 'main\n' }], {
            setUp: argvs([{ print: 'ok\n' }], [{ print: 'no\n' }, { exit: 7 }], [{ print: 'never\n' }]),
            tearDown: tearDown([{ print: 'away\n' }]),
          }),
        )
        const segments = await readAll(handle)
        const end = await handle.ended
        expect(textOf(segments)).toBe('ok\nno\naway\n')
        expect(textOf(segments, 'system')).toContain('set-up 2 of 3 exited with 7\n')
        expect(end).toMatchObject({ kind: 'exited', exitCode: 7, tail: 'no\n' })
        expect(stagesOf(end)).toEqual(['setUp 1 exited 0', 'setUp 2 exited 7', 'tearDown 1 exited 0'])
      })

      test('what a tear-down does never hides how the command ended, and all of it runs', async () => {
        const handle = await backend.start(
          specOf([{ print: 'main\n' }, { exit: 3 }], {
            tearDown: tearDown([{ print: 'bad\n' }, { exit: 9 }], [{ print: 'away\n' }]),
          }),
        )
        const end = await handle.ended
        expect(end).toMatchObject({ kind: 'exited', exitCode: 3, tail: 'main\n' })
        expect(stagesOf(end)).toEqual(['command 1 exited 3', 'tearDown 1 exited 9', 'tearDown 2 exited 0'])
        expect(end.stages?.[1]?.tail).toBe('bad\n')
        const good = await runToEnd([], { key: 'run_1.good@1', tearDown: tearDown([{ exit: 9 }]) })
        expect(good).toMatchObject({ kind: 'exited', exitCode: 0 })
      })

      test('a tear-down runs after a cancel and after a time-out', async () => {
        const canceled = await backend.start(
          specOf([{ print: 'busy\n' }, { hold: 'never' }], { tearDown: tearDown([{ print: 'away\n' }]) }),
        )
        await readUntil(canceled, 'busy\n')
        await canceled.cancel()
        const end = await canceled.ended
        expect(end).toMatchObject({ kind: 'canceled', tail: 'busy\n' })
        expect(stagesOf(end)).toEqual(['command 1 canceled', 'tearDown 1 exited 0'])
        expect(textOf(await readAll(canceled))).toBe('busy\naway\n')

        const late = await backend.start(
          specOf([], {
            key: 'run_1.late@1',
            timeoutMs: 150,
            setUp: argvs([{ hold: 'never' }]),
            tearDown: tearDown([{ print: 'away\n' }]),
          }),
        )
        const lateEnd = await late.ended
        expect(lateEnd).toMatchObject({ kind: 'timed_out', timeoutMs: 150 })
        expect(stagesOf(lateEnd)?.map((s) => s.replace(/ \d+$/, ''))).toEqual([
          'setUp 1 timed_out',
          'tearDown 1 exited',
        ])
        expect(textOf(await readAll(late))).toBe('away\n')
      })

      test('a tear-down has a time of its own, and what is left of it does not begin', async () => {
        const end = await runToEnd([], {
          tearDown: { commands: argvs([{ hold: 'never' }], [{ print: 'more\n' }]), timeoutMs: 150 },
        })
        expect(end).toMatchObject({ kind: 'exited', exitCode: 0 })
        expect(end.stages?.map((s) => `${s.stage} ${s.end}`)).toEqual([
          'command exited',
          'tearDown timed_out',
          'tearDown timed_out',
        ])
      })

      test('a cancel during the tear-down does not cut it short', async () => {
        const handle = await backend.start(
          specOf([], { tearDown: tearDown([{ print: 'on\n' }, { hold: 'gate' }, { print: 'done\n' }]) }),
        )
        await readUntil(handle, 'on\n')
        await handle.cancel()
        harness.release('gate', root)
        expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 0 })
        expect(textOf(await readAll(handle))).toBe('on\ndone\n')
      })

      test('a worker that starts again between two of them finds both: none runs twice, none is forgotten', async () => {
        const first = await backend.start(
          specOf([{ print: 'main\n' }], {
            setUp: argvs([{ print: 'one\n' }, { hold: 'gate' }], [{ print: 'two\n' }]),
            tearDown: tearDown([{ print: 'away\n' }]),
          }),
        )
        await readUntil(first, 'one\n')
        await backend.close()
        backend = await harness.reborn(backend, root)
        const [found] = await backend.recover()
        harness.release('gate', root)
        const end = (await found?.ended) ?? expect.fail('it was not found')
        expect(end).toMatchObject({ kind: 'exited', exitCode: 0 })
        expect(stagesOf(end)).toHaveLength(4)
        expect(textOf(found ? await readAll(found) : [])).toBe('one\ntwo\nmain\naway\n')
      })
    })

    describe('what is handed on', () => {
      const exported = (text: string): Act => ({ exports: text })

      test('variables of a set-up are there for what comes after it, and all of them are told', async () => {
        const handle = await backend.start(
          specOf([{ printEnv: 'A' }, { printEnv: 'B' }, exported('C=three\n')], {
            exportEnv: true,
            setUp: [harness.argvOf([exported('A=one\nB<<END\nx\ny=z\nEND\n')], root)],
            tearDown: { commands: [harness.argvOf([{ printEnv: 'C' }, exported('D=no\n')], root)], timeoutMs: 20_000 },
          }),
        )
        expect(await handle.ended).toMatchObject({ exported: { A: 'one', B: 'x\ny=z', C: 'three' } })
        expect((await handle.ended).exported).not.toHaveProperty('D')
        expect(textOf(await readAll(handle))).toBe('onex\ny=zthree')
      })

      test.each([
        ['a line that is no variable', 'A=1\nno variable\n', { code: 'env.malformed', evidence: { line: 2 } }],
        ['a reserved name', 'PATH=/tmp\n', { code: 'env.refused', evidence: { name: 'PATH' } }],
        ['too much', `A=${'x'.repeat(LIMITS.exportBytes)}\n`, { code: 'env.too_large' }],
      ])('%s ends the attempt, and what comes after it does not run', async (_, text, failure) => {
        const end = await runToEnd([{ print: 'main\n' }], {
          exportEnv: true,
          setUp: [harness.argvOf([exported(text)], root)],
        })
        expect(end).toMatchObject({ kind: 'unusable', failure })
        expect(end.stages).toHaveLength(1)
        expect(end).not.toHaveProperty('exported')
      })

      test.each([
        ['a name', 'hunter2_horse=1', 'hunter2_horse'],
        ['a name that begins with it', 'PATH_hunter2_horse=1', 'hunter2_horse'],
        ['a name and its value', 'hunter2=horse', 'hunter2=horse'],
      ])('a secret that passes as %s is refused, and the name is not told', async (_, line, secret) => {
        const end = await runToEnd([exported(`${line}\n`)], { exportEnv: true, redact: [secret] })
        expect(end).toMatchObject({ kind: 'unusable', failure: { code: 'env.refused' } })
        expect(JSON.stringify(end)).not.toContain('hunter2')
      })

      test('a secret is refused in whatever form, told nowhere, and left on no disk', async () => {
        const secret = 'hunter2/correct+horse'
        const base64 = Buffer.from(secret).toString('base64')
        const end = await runToEnd([exported(`OK=yes\nTOKEN=Bearer ${base64}\n`)], {
          exportEnv: true,
          redact: [secret],
        })
        expect(end).toMatchObject({ kind: 'unusable', failure: { code: 'env.refused', evidence: { name: 'TOKEN' } } })
        expect(JSON.stringify(end)).not.toContain(base64)
        for (const file of readdirSync(root, { recursive: true, withFileTypes: true }))
          // The command line itself, which a test has to say it in, lies in spec.json.
          if (file.isFile() && file.name !== 'spec.json')
            expect(readFileSync(join(file.parentPath, file.name), 'latin1')).not.toContain(`Bearer ${base64}`)
      })

      test('the standard output of the command itself can be taken, without secrets', async () => {
        const secret = 'hunter2/correct+horse'
        const end = await runToEnd(
          [{ print: '{"rows":' }, { print: 'err', to: 'stderr' }, { print: ` 2, "t": "${secret}"}\n` }],
          {
            take: { from: 'stdout' },
            redact: [secret],
            setUp: [harness.argvOf([{ print: 'noise\n' }], root)],
            tearDown: { commands: [harness.argvOf([{ print: 'noise\n' }], root)], timeoutMs: 20_000 },
          },
        )
        const { taken } = end
        const text = readFileSync(taken && 'file' in taken ? taken.file : '', 'utf8')
        expect(JSON.parse(text)).toEqual({ rows: 2, t: '[secret]' })
      })

      test('a file of the workspace can be taken, and none beyond it', async () => {
        const taken = async (path: string, key: string) =>
          (await runToEnd([{ write: 'out/report.txt', text: 'all well\n' }], { key, take: { from: 'file', path } }))
            .taken
        const good = await taken('out/report.txt', 'run_1.a@1')
        expect(readFileSync(good && 'file' in good ? good.file : '', 'utf8')).toBe('all well\n')
        expect(await taken('out/other.txt', 'run_1.b@1')).toEqual({ problem: 'absent' })
        expect(await taken('out', 'run_1.c@1')).toEqual({ problem: 'no_file' })
        expect(await taken('..', 'run_1.d@1')).toEqual({ problem: 'outside' })
      })

      test('a workspace is filled before anything runs, and what keeps it from that ends the attempt', async () => {
        const filled = await backend.start(
          specOf([{ print: 'main\n' }], {
            fill: async (workspace) => writeFileSync(join(workspace, 'in.txt'), 'given'),
            take: { from: 'file', path: 'in.txt' },
          }),
        )
        const { taken } = await filled.ended
        expect(readFileSync(taken && 'file' in taken ? taken.file : '', 'utf8')).toBe('given')
        const refused = await backend.start(
          specOf([{ print: 'main\n' }], {
            key: 'run_1.refused@1',
            fill: () => Promise.reject(new Failure('artifact.none_found', 'filling it')),
          }),
        )
        expect(await refused.ended).toMatchObject({ kind: 'not_started', failure: { code: 'artifact.none_found' } })
        expect(await readAll(refused)).toEqual([])
      })
    })

    test('a worker that is gone while a workspace was being filled leaves nothing: the attempt never was', async () => {
      const asked = Promise.withResolvers<void>()
      const spec = specOf([{ print: 'main\n' }])
      void backend.start({
        ...spec,
        fill: () => {
          asked.resolve()
          return new Promise(() => {})
        },
      })
      await asked.promise
      await backend.close()
      backend = await harness.reborn(backend, root)
      expect(await backend.recover()).toEqual([])
    })

    test('a worker that stops while a workspace is being filled leaves nothing either', async () => {
      const handle = await backend.start(
        specOf([{ print: 'main\n' }], {
          fill: () => Promise.reject(new Failure('attempt.stale_lease', 'filling it')),
        }),
      )
      expect(await handle.ended).toMatchObject({ kind: 'not_started', failure: { code: 'attempt.stale_lease' } })
      await backend.close()
      backend = await harness.reborn(backend, root)
      expect(await backend.recover()).toEqual([])
    })

    test('a forgotten attempt is gone, unless it failed and is to be kept', async () => {
      const gone = await backend.start(specOf([{ exit: 1 }], { key: 'run_1.a@1' }))
      await gone.ended
      expect(await gone.forget({ failed: true })).toBeNull()
      const kept = await backend.start(specOf([{ exit: 1 }], { key: 'run_1.b@1', keepOnFailureMs: 0 }))
      await kept.ended
      const place = await kept.forget({ failed: true })
      expect(place?.path).toBe(kept.workspace)
      expect(await backend.recover()).toEqual([])
      expect(await backend.sweepKept()).toBe(1)
      expect(await backend.sweepKept()).toBe(0)
    })
  })
}

/** Reads until `count` segments came, then lets go. */
export async function readSome(handle: CommandHandle, count: number): Promise<OutputSegment[]> {
  const segments: OutputSegment[] = []
  for await (const segment of handle.output(0)) {
    segments.push(segment)
    if (segments.length === count) break
  }
  return segments
}

/** Reads until the command has printed this. */
export async function readUntil(handle: CommandHandle, printed: string): Promise<void> {
  let text = ''
  for await (const segment of handle.output(0)) {
    if (segment.stream === 'stdout') text += segment.text
    if (text.includes(printed)) break
  }
}
