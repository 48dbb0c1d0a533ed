import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import wabt from 'wabt'
import type { JsonObject } from '../../base/json.ts'
import { whyNoSandbox } from '../testing/sandbox-here.ts'
import { callTool } from '../testing/tool-rig.ts'

const noSandbox = whyNoSandbox()

const WASI = (name: string, type: string): string =>
  `(import "wasi_snapshot_preview1" "${name}" (func $${name} ${type}))`
const RW = '(param i32 i32 i32 i32) (result i32)'

/** A module that writes what it reads, 4 KiB of it. */
const ECHO = `(module
  ${WASI('fd_read', RW)} ${WASI('fd_write', RW)}
  (memory (export "memory") 1 2)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))`

/** A module that writes a text, and ends with a code. */
const says = (text: string, code = 0): string => `(module
  ${WASI('fd_write', RW)} ${WASI('proc_exit', '(param i32)')}
  (memory (export "memory") 1 1)
  (data (i32.const 64) "${text.replaceAll('"', '\\22')}")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const ${text.length}))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const ${code}))))`

/** A module that writes its environment, or its arguments. */
const lists = (what: 'environ' | 'args'): string => `(module
  ${WASI('fd_write', RW)} ${WASI(`${what}_get`, '(param i32 i32) (result i32)')} ${WASI(`${what}_sizes_get`, '(param i32 i32) (result i32)')}
  (memory (export "memory") 1 1)
  (func (export "_start")
    (drop (call $${what}_sizes_get (i32.const 0) (i32.const 4)))
    (drop (call $${what}_get (i32.const 1024) (i32.const 8192)))
    (i32.store (i32.const 16) (i32.const 8192)) (i32.store (i32.const 20) (i32.load (i32.const 4)))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))))`

const runs = (body: string, memory = '1 1', more = ''): string =>
  `(module (memory (export "memory") ${memory}) ${more} (func (export "_start") ${body}))`

let files = ''
let assemble: (text: string) => Uint8Array
beforeAll(async () => {
  files = mkdtempSync(join(tmpdir(), 'orrery-wasm-'))
  const tools = await wabt()
  assemble = (text) => {
    const module = tools.parseWat('it.wat', text)
    const { buffer } = module.toBinary({})
    module.destroy()
    return buffer
  }
})
afterAll(() => rmSync(files, { recursive: true, force: true }))

async function call(
  text: string | Uint8Array,
  block: JsonObject = {},
  given: { input?: JsonObject; more?: JsonObject; secrets?: Record<string, string> } = {},
) {
  writeFileSync(join(files, 'it.wasm'), typeof text === 'string' ? assemble(text) : text)
  const spec = { type: 'wasm', retry: 0, ...given.more, wasm: { module: 'it.wasm', ...block } }
  return callTool(spec, given.input ?? {}, {
    deps: { programs: { files, hostCommands: [] } },
    ...(given.secrets ? { secrets: given.secrets } : {}),
  })
}

for (const isolation of ['wasm', 'sandbox'])
  describe.skipIf(isolation === 'sandbox' && noSandbox !== null)(`a module in isolation ${isolation}`, () => {
    const more = { isolation }

    test('is handed the call, and gives a result', async () => {
      const { result } = await call(ECHO, { output: 'json' }, { input: { q: 'ü' }, more })
      expect(result).toMatchObject({
        ok: true,
        output: { version: 1, input: { q: 'ü' }, idempotencyKey: 'stp_1/call_1' },
      })
      expect((await call(says('{"ok":true,"output":[7]}'), {}, { more })).result).toEqual({ ok: true, output: [7] })
    })

    test('that traps says so', async () => {
      expect((await call(runs('unreachable'), {}, { more })).result).toMatchObject({
        ok: false,
        code: 'tool.wasm_trap',
        reason: 'it.wasm: unreachable',
        retryable: false,
      })
    })
  })

describe('a module', () => {
  test.for<[what: string, block: JsonObject, output: unknown]>([
    ['the input', { stdin: 'input', output: 'json' }, { q: 1 }],
    ['nothing', { stdin: 'none', output: 'text' }, ''],
  ])('reads %s', async ([, block, output]) => {
    expect((await call(ECHO, block, { input: { q: 1 } })).result).toEqual({ ok: true, output })
  })

  test('has no environment but its own, and its arguments', async () => {
    const block = {
      output: 'text',
      env: { CITY: '${{ inputs.city }}', TOKEN: { secret: 'api', key: 'token' } },
      args: ['--city', '${{ inputs.city }}'],
    }
    const given = { input: { city: 'Bern' }, secrets: { 'api/token': 'correct-horse' } }
    const { result } = await call(lists('environ'), block, given)
    const names = String(result.ok && result.output)
      .split('\0')
      .map((entry) => entry.split('=')[0] ?? '')
    expect(names.filter(Boolean).toSorted()).toEqual([
      'CITY',
      'ORRERY_IDEMPOTENCY_KEY',
      'ORRERY_TOOL',
      'TOKEN',
      'TRACEPARENT',
    ])
    expect(result).toMatchObject({ output: expect.stringContaining('TOKEN=[secret]\0') })
    expect((await call(lists('args'), block, given)).result).toEqual({ ok: true, output: 'tool\0--city\0Bern\0' })
  })

  test('ends with a code, and says why', async () => {
    expect((await call(says('', 3), {})).result).toMatchObject({ code: 'tool.failed', evidence: { exitCode: 3 } })
    expect((await call(says('{"ok":false,"reason":"no","retryable":true}', 3), {})).result).toMatchObject({
      code: 'tool.failed',
      reason: 'no',
      retryable: true,
    })
    expect((await call(says('not a result'), {})).result).toMatchObject({ code: 'tool.invalid_output' })
    expect(
      (await call(says('x'.repeat(2_000)), { output: 'text' }, { more: { maxOutputBytes: 1_000 } })).result,
    ).toMatchObject({
      code: 'tool.invalid_output',
      evidence: { maxOutputBytes: 1_000 },
    })
  })

  test.for<[what: string, body: string, message: RegExp]>([
    ['divides by zero', '(drop (i32.div_s (i32.const 1) (i32.const 0)))', /divide by zero/],
    ['leaves its memory', '(drop (i32.load (i32.const 70000)))', /out of bounds/],
  ])('that %s traps', async ([, body, message]) => {
    expect((await call(runs(body))).result).toMatchObject({
      code: 'tool.wasm_trap',
      reason: expect.stringMatching(message),
    })
  })

  test.for<[what: string, text: string, block: JsonObject, limit: string]>([
    ['may grow beyond what is allowed', runs('', '1 100'), { memoryBytes: 65_536 * 10 }, 'memory'],
    [
      'gives up when its memory is full',
      runs('(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable', '1 8'),
      {},
      'memory',
    ],
    ['calls itself without end', runs('(call $f)', '1 1', '(func $f (call $f))'), {}, 'stack'],
    ['never ends', runs('(loop (br 0))'), { cpu: '700ms' }, 'time'],
  ])('that %s has reached a limit', async ([, text, block, limit]) => {
    expect((await call(text, block)).result).toMatchObject({
      ok: false,
      code: 'tool.wasm_limit',
      retryable: false,
      evidence: { limit },
    })
  })

  test('that never ends ends with the time-out of the tool, when that is shorter', async () => {
    expect((await call(runs('(loop (br 0))'), {}, { more: { timeout: '300ms' } })).result).toMatchObject({
      code: 'tool.timeout',
    })
  })

  test.for<[what: string, text: string | Uint8Array, reason: RegExp]>([
    ['has a memory without a maximum', runs('', '1'), /no maximum/],
    ['is none', new TextEncoder().encode('#!/bin/sh'), /magic|expected/],
    [
      'imports what there is not',
      '(module (import "env" "host" (func)) (memory (export "memory") 1 1) (func (export "_start")))',
      /imports env\.host \(function\)/,
    ],
    [
      'imports its memory',
      '(module (import "wasi_snapshot_preview1" "memory" (memory 1 2)) (func (export "_start")))',
      /imports .*memory/,
    ],
    [
      'imports a function that WASI has not',
      '(module (import "wasi_snapshot_preview1" "fork" (func)) (memory (export "memory") 1 1) (func (export "_start")))',
      /fork/,
    ],
    ['is no command', '(module (memory (export "memory") 1 1))', /exports no _start/],
    ['shows no memory', '(module (memory 1 1) (func (export "_start")))', /exports no memory/],
  ])('that %s is refused', async ([, text, reason]) => {
    expect((await call(text)).result).toMatchObject({
      code: 'tool.runtime_invalid',
      reason: expect.stringMatching(reason),
      retryable: false,
    })
  })

  test('opens no files', async () => {
    const opens = `(module
      (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
      ${WASI('proc_exit', '(param i32)')}
      (memory (export "memory") 1 1)
      (func (export "_start") (call $proc_exit (call $prestat (i32.const 3) (i32.const 0)))))`
    expect((await call(opens)).result).toMatchObject({ evidence: { exitCode: 8 } })
  })

  test('is the one that the manifest means, or none', async () => {
    const sha256 = createHash('sha256').update(assemble(ECHO)).digest('hex')
    expect((await call(ECHO, { sha256, output: 'json' })).result.ok).toBe(true)
    expect((await call(says('{"ok":true,"output":1}'), { sha256 })).result).toMatchObject({
      code: 'tool.module_not_found',
      reason: expect.stringMatching(/its SHA-256 is [0-9a-f]{64}$/),
      evidence: { wanted: sha256 },
    })
    expect((await call(ECHO, { module: 'other.wasm' })).result).toMatchObject({ code: 'tool.module_not_found' })
    const { result } = await callTool({ type: 'wasm', wasm: { module: 'it.wasm' } })
    expect(result).toMatchObject({ code: 'tool.module_not_found', reason: expect.stringContaining('--tool-files DIR') })
  })
})
