import { realpathSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { assert } from '../../base/assert.ts'
import { Failure } from '../../domain/failure.ts'
import { isolationOf, type ToolSpec } from '../../domain/kinds/tool.ts'
import { environmentOf, fillArguments, outputOf, stdinOf } from './command-driver.ts'
import { fileOfTool, type ToolPrograms } from './tool-programs.ts'
import { type ProgramEnd, runProgram } from './run-program.ts'
import { findProgram, limited, refuseUnstarted, sandboxed } from './sandbox.ts'
import type { ToolDriver, TryResult } from './tool-driver.ts'
import type { WasmEnd } from './wasm-host.ts'

type WasmBlock = NonNullable<ToolSpec['wasm']>

const PAGE_BYTES = 65_536
/** Node runs modules of its own: the engine's bound, which is there in case ours fails, is no lower than they need. */
const NODES_OWN_BYTES = 64 * 1024 * 1024
/** What the process around a module takes itself. */
const HOST_BYTES = 1024 * 1024 * 1024
/** Of the processor, to start and to compile. */
const NODES_OWN_CPU_MS = 10_000

/** A WASI command, in a process that holds nothing else and may do nothing else. */
export const createWasmDriver = (programs: ToolPrograms): ToolDriver => ({
  async call(spec, envelope, env) {
    const { wasm } = spec
    assert(wasm, 'a wasm tool has its block')
    const module = fileOfTool(wasm.module, programs.files)
    const args = fillArguments(wasm.args ?? [], envelope.input)
    const ownEnv = await environmentOf(wasm.env, envelope, env)
    const argv = hostOf(wasm, module, args)
    const inSandbox = isolationOf(spec) === 'sandbox'
    const start = inSandbox ? sandboxed(sandboxOf(wasm, argv, module)) : bounded(wasm, argv)
    const ending = new AbortController()
    const signal = AbortSignal.any([env.signal, ending.signal])
    const over = env.clock.sleep(wasm.cpu, signal).then(
      () => ending.abort(new OutOfTime()),
      () => {},
    )
    try {
      const end = await runProgram({
        ...start,
        env: ownEnv,
        cwd: '/',
        stdin: stdinOf(wasm.stdin, envelope),
        maxOutputBytes: spec.maxOutputBytes,
        clock: env.clock,
        signal,
        onLine: env.log,
      })
      if (inSandbox) refuseUnstarted(end.status, end.tail)
      return resultOfEnd(end, spec, wasm)
    } catch (error) {
      if (!(error instanceof OutOfTime)) throw error
      return limit(wasm, 'time', `it ran for longer than ${wasm.cpu} ms`)
    } finally {
      ending.abort()
      await over
    }
  },
})

class OutOfTime extends Error {}

const host = (): string =>
  realpathSync(fileURLToPath(new URL(`./wasm-host${extname(import.meta.url)}`, import.meta.url)))

/** Node with nothing allowed but to read the module and what runs it. */
function hostOf(wasm: WasmBlock, module: string, args: string[]): string[] {
  const program = host()
  return [
    process.execPath,
    '--no-warnings',
    '--permission',
    '--allow-wasi',
    `--allow-fs-read=${program}`,
    `--allow-fs-read=${module}`,
    `--wasm-max-mem-pages=${Math.ceil(Math.max(wasm.memoryBytes, NODES_OWN_BYTES) / PAGE_BYTES)}`,
    program,
    module,
    String(wasm.memoryBytes),
    wasm.sha256 ?? '-',
    ...args,
  ]
}

/** The kernel ends what a worker that was killed leaves running. */
function bounded(wasm: WasmBlock, argv: string[]): { file: string; args: string[] } {
  const limits = {
    memoryBytes: wasm.memoryBytes + HOST_BYTES,
    cpu: wasm.cpu + NODES_OWN_CPU_MS,
    processes: null,
    fileBytes: 0,
  }
  const [file = '', ...args] = findProgram('prlimit') === null ? argv : limited(limits, argv)
  return { file, args }
}

function sandboxOf(wasm: WasmBlock, argv: string[], module: string) {
  const limits = {
    memoryBytes: wasm.memoryBytes + HOST_BYTES,
    cpu: wasm.cpu + NODES_OWN_CPU_MS,
    processes: 64,
    fileBytes: 0,
  }
  return { files: null, seen: [process.execPath, host(), module], limits, argv }
}

const endSchema: z.ZodType<WasmEnd> = z.discriminatedUnion('end', [
  z.object({ end: z.literal('exited'), code: z.number() }),
  z.object({ end: z.literal('trap'), message: z.string() }),
  z.object({ end: z.literal('limit'), what: z.enum(['memory', 'stack']), message: z.string() }),
  z.object({ end: z.literal('invalid'), message: z.string() }),
  z.object({ end: z.literal('absent'), message: z.string() }),
])

function endIn(told: string): WasmEnd | null {
  const parsed = endSchema.safeParse(jsonOrNull(told))
  return parsed.success ? parsed.data : null
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function resultOfEnd(end: ProgramEnd, spec: ToolSpec, wasm: WasmBlock): TryResult {
  if (end.isTooLarge)
    throw new Failure(
      'tool.invalid_output',
      `the output of ${wasm.module} is larger than ${spec.maxOutputBytes} bytes`,
      {
        evidence: { maxOutputBytes: spec.maxOutputBytes },
      },
    )
  const how = endIn(end.told)
  // Whoever runs a module fills the memory of its process before it can say so.
  if (how === null) return limit(wasm, 'process', `its process was ended (${end.signal ?? `code ${end.code}`})`)
  switch (how.end) {
    case 'exited':
      return how.code === 0 ? outputOf(end, wasm.output, wasm.module) : exitedWith(how.code, end, wasm)
    case 'trap':
      return failed(wasm, 'tool.wasm_trap', how.message, { tail: end.tail })
    case 'limit':
      return limit(wasm, how.what, how.message)
    case 'invalid':
      return failed(wasm, 'tool.runtime_invalid', how.message, {})
    case 'absent':
      return failed(
        wasm,
        'tool.module_not_found',
        how.message,
        wasm.sha256 === undefined ? {} : { wanted: wasm.sha256 },
      )
  }
}

function exitedWith(code: number, end: ProgramEnd, wasm: WasmBlock): TryResult {
  const told = wasm.output === 'envelope' ? resultOrNull(end, wasm) : null
  if (told?.ok === false) return told
  return failed(wasm, 'tool.failed', `it ended with code ${code}`, { exitCode: code, tail: end.tail })
}

function resultOrNull(end: ProgramEnd, wasm: WasmBlock): TryResult | null {
  try {
    return outputOf(end, wasm.output, wasm.module)
  } catch {
    return null
  }
}

type WasmCode = 'tool.wasm_trap' | 'tool.runtime_invalid' | 'tool.module_not_found' | 'tool.wasm_limit' | 'tool.failed'

const failed = (
  wasm: WasmBlock,
  code: WasmCode,
  message: string,
  evidence: Record<string, string | number>,
): TryResult => ({
  ok: false,
  code,
  reason: `${wasm.module}: ${message}`,
  retryable: false,
  evidence: { module: wasm.module, ...evidence },
})

const limit = (wasm: WasmBlock, what: string, message: string): TryResult =>
  failed(wasm, 'tool.wasm_limit', message, { limit: what, memoryBytes: wasm.memoryBytes, cpuMs: wasm.cpu })
