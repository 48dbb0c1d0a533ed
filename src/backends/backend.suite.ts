import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import type { Backend, CommandEnd, CommandHandle, CommandSpec, OutputSegment } from './backend.ts'
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
    const runToEnd = async (acts: Act[], more: Partial<CommandSpec> = {}): Promise<CommandEnd> =>
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
