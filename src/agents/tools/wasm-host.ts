// A program of its own: runs one WASI command, in a process that has nothing else in it, and says on descriptor 4 how that ended.
//   node wasm-host.ts MODULE MEMORY_BYTES SHA256|- ARGUMENT…
// Its environment is the module's, its standard input and output too. Nothing of the file system is opened to the module.
import { createHash } from 'node:crypto'
import { readFileSync, writeSync } from 'node:fs'
import { WASI } from 'node:wasi'

/** How it ended, as one line of JSON. */
export type WasmEnd =
  | { end: 'exited'; code: number }
  /** The module did what no module may. */
  | { end: 'trap'; message: string }
  | { end: 'limit'; what: 'memory' | 'stack'; message: string }
  /** It is no module that is run here. */
  | { end: 'invalid'; message: string }
  | { end: 'absent'; message: string }

/** As much of the engine's interface as is used here. */
interface WasmMemory {
  readonly buffer: { readonly byteLength: number }
  grow(pages: number): number
}
interface WasmModule {
  readonly kind?: never
}
interface Described {
  name: string
  kind: string
}
declare const WebAssembly: {
  Module: {
    new (bytes: Uint8Array): WasmModule
    imports(module: WasmModule): (Described & { module: string })[]
    exports(module: WasmModule): Described[]
  }
  Instance: new (module: WasmModule, imports: object) => { exports: Record<string, unknown> }
  LinkError: ErrorConstructor
  RuntimeError: ErrorConstructor
}

const PAGE_BYTES = 65_536
const WASI_MODULE = 'wasi_snapshot_preview1'

const [path = '', memoryText = '', wantedHash = '-', ...args] = process.argv.slice(2)
writeSync(4, `${JSON.stringify(run())}\n`)
process.exit(0)

function run(): WasmEnd {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    return { end: 'absent', message: messageOf(error) }
  }
  const hash = createHash('sha256').update(bytes).digest('hex')
  if (wantedHash !== '-' && wantedHash !== hash) return { end: 'absent', message: `its SHA-256 is ${hash}` }
  let module: WasmModule
  try {
    module = new WebAssembly.Module(bytes)
  } catch (error) {
    return { end: 'invalid', message: messageOf(error) }
  }
  const wrong = whyNot(module, bytes)
  return wrong ?? start(module)
}

function whyNot(module: WasmModule, bytes: Uint8Array): WasmEnd | null {
  const invalid = (message: string): WasmEnd => ({ end: 'invalid', message })
  const stray = WebAssembly.Module.imports(module).find((one) => one.module !== WASI_MODULE || one.kind !== 'function')
  if (stray)
    return invalid(
      `it imports ${stray.module}.${stray.name} (${stray.kind}); only functions of ${WASI_MODULE} are there`,
    )
  const exported = WebAssembly.Module.exports(module)
  if (!exported.some(({ name, kind }) => name === '_start' && kind === 'function'))
    return invalid('it exports no _start: build it as a WASI command')
  if (!exported.some(({ name, kind }) => name === 'memory' && kind === 'memory')) return invalid('it exports no memory')
  const maxima = memoryMaxima(bytes)
  if (maxima.includes(null))
    return invalid('its memory has no maximum: link it with one (wasm-ld --max-memory=BYTES), or set one in the text')
  const declared = maxima.reduce<number>((sum, pages) => sum + (pages ?? 0) * PAGE_BYTES, 0)
  if (declared <= Number(memoryText)) return null
  return {
    end: 'limit',
    what: 'memory',
    message: `its memory may grow to ${declared} bytes; ${memoryText} are allowed`,
  }
}

function start(module: WasmModule): WasmEnd {
  const wasi = new WASI({
    version: 'preview1',
    args: ['tool', ...args],
    env: process.env,
    preopens: {},
    returnOnExit: true,
  })
  let memory: WasmMemory | null = null
  let initialBytes = 0
  try {
    const instance = new WebAssembly.Instance(module, wasi.getImportObject())
    memory = instance.exports['memory'] as WasmMemory // exported as one, as was looked at above
    initialBytes = memory.buffer.byteLength
    return { end: 'exited', code: wasi.start(instance) }
  } catch (error) {
    return judge(error, memory !== null && memory.buffer.byteLength > initialBytes && isFull(memory))
  }
}

function judge(error: unknown, tookAllMemory: boolean): WasmEnd {
  const message = messageOf(error)
  if (error instanceof WebAssembly.LinkError) return { end: 'invalid', message }
  if (error instanceof RangeError)
    return { end: 'limit', what: /call stack/.test(message) ? 'stack' : 'memory', message }
  // Whoever gets no more memory mostly gives up by a trap.
  if (error instanceof WebAssembly.RuntimeError && tookAllMemory)
    return { end: 'limit', what: 'memory', message: `${message}; all of its memory was taken` }
  return error instanceof WebAssembly.RuntimeError ? { end: 'trap', message } : { end: 'invalid', message }
}

/** Whether it cannot grow by another page. */
function isFull(memory: WasmMemory): boolean {
  try {
    memory.grow(1)
    return false
  } catch {
    return true
  }
}

/** Largest pages of each memory that a module, which is known to be one, declares; null: without a maximum. */
function memoryMaxima(bytes: Uint8Array): (number | null)[] {
  let at = 8
  const number = (): number => {
    let value = 0
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++] ?? 0
      value += (byte & 127) * factor
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const id = bytes[at++]
    const size = number()
    if (id !== 5) {
      at += size
      continue
    }
    return Array.from({ length: number() }, () => {
      const flags = number()
      number()
      return (flags & 1) === 1 ? number() : null
    })
  }
  return []
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500)
}
