import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import wabt from 'wabt'
import type { JsonObject } from '../../src/base/index.ts'
import { startAgents } from './agents.ts'
import { makeDir } from './rig.ts'

/** A tool over HTTP that answers as its path says. */
async function startTool(): Promise<string> {
  const server = createServer((request, response) => {
    request.resume()
    if (request.url === '/silent') return
    const status = request.url === '/broken' ? 500 : 200
    response.writeHead(status, { 'content-type': 'application/json' }).end('{"ok":true}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}` // listening on TCP
}

describe('AGT-6: a call of a tool cannot be made, or fails', () => {
  test('the model is told the code and the reason, the journal keeps them, and the agent goes on', async () => {
    const scene = await startAgents()
    const at = await startTool()
    const http = (path: string, more: JsonObject = {}): JsonObject => ({
      type: 'http',
      http: { url: `${at}/${path}` },
      allowPrivateAddresses: true,
      retry: 0,
      ...more,
    })
    const run = await scene.ask({
      tools: {
        good: http('good', { inputSchema: { type: 'object', required: ['a'] } }),
        broken: http('broken'),
        silent: http('silent', { timeout: '200ms' }),
      },
      model: {
        mock: {
          replies: [
            { toolCalls: [{ name: 'godo' }, { name: 'good', input: { b: 1 } }] },
            { toolCalls: [{ name: 'broken' }, { name: 'silent' }, { name: 'good', input: { a: 1 } }] },
            { text: 'It went as well as it could.' },
          ],
        },
      },
    })
    expect(run).toMatchObject({ state: 'succeeded', stepList: [{ output: { text: 'It went as well as it could.' } }] })
    const journal = await scene.journal(run.id, 'write')
    const results = journal.flatMap((entry) => (entry['kind'] === 'tool_answered' ? [entry['result']] : []))
    expect(results).toHaveLength(5)
    const coded = (code: string) => results.find((result) => JSON.stringify(result).includes(`"code":"${code}"`))
    expect(coded('tool.unknown')).toMatchObject({ ok: false, reason: expect.stringContaining('did you mean good?') })
    expect(coded('tool.invalid_input')).toMatchObject({ evidence: { problems: ['input.a is required'] } })
    expect(coded('tool.failed')).toMatchObject({ ok: false })
    expect(coded('tool.timeout')).toMatchObject({ ok: false, retryable: true })
    expect(results.filter((result) => JSON.stringify(result).startsWith('{"ok":true'))).toHaveLength(1)
    const shown = await scene.orrery('runs', 'logs', run.id)
    expect(shown.stdout).toContain('tool.timeout')
    expect(shown.stdout).toContain('It went as well as it could.')
  })
})

/** Modules for tools, below a directory of the worker. */
async function makeModules(): Promise<string> {
  const files = makeDir()
  const { parseWat } = await wabt()
  const make = (name: string, body: string, memory = '1 1'): void => {
    const text = `(module (memory (export "memory") ${memory}) (func (export "_start") ${body}))`
    writeFileSync(join(files, `${name}.wasm`), parseWat(`${name}.wat`, text).toBinary({}).buffer)
  }
  make('traps', 'unreachable')
  make('endless', '(loop (br 0))')
  make('unbounded', '', '1')
  return files
}

describe('AGT-6: a tool that is a program cannot be run, or goes beyond its bounds', () => {
  test('each way has its code, and says what to do on the host of the worker', async () => {
    const files = await makeModules()
    const scene = await startAgents(['--tool-files', files, '--tool-commands', 'cat'])
    const wasm = (name: string, more: JsonObject = {}): JsonObject => ({
      type: 'wasm',
      wasm: { module: `${name}.wasm`, ...more },
    })
    const host = (program: string): JsonObject => ({
      type: 'command',
      isolation: 'none',
      command: { argv: [program], output: 'json' },
    })
    const tools = {
      traps: wasm('traps'),
      endless: wasm('endless', { cpu: '700ms' }),
      unbounded: wasm('unbounded'),
      absent: wasm('absent'),
      date: host('date'),
      cat: host('cat'),
    }
    const toolCalls = Object.keys(tools).map((name) => ({ name, input: { a: 1 } }))
    const run = await scene.ask({ tools, model: { mock: { replies: [{ toolCalls }, { text: 'Done.' }] } } })
    expect(run).toMatchObject({ state: 'succeeded', stepList: [{ output: { text: 'Done.' } }] })
    const journal = await scene.journal(run.id, 'write')
    const results = journal.flatMap((entry) =>
      entry['kind'] === 'tool_answered' ? [JSON.stringify(entry['result'])] : [],
    )
    expect(results).toHaveLength(toolCalls.length)
    for (const [code, said] of [
      ['tool.wasm_trap', 'traps.wasm: unreachable'],
      ['tool.wasm_limit', 'endless.wasm: it ran for longer than 700 ms'],
      ['tool.runtime_invalid', 'its memory has no maximum'],
      ['tool.module_not_found', 'absent.wasm'],
      ['tool.isolation_unavailable', '--tool-commands date'],
    ] as const) {
      const told = results.filter((result) => result.includes(`"code":"${code}"`))
      expect(told).toEqual([expect.stringContaining(said)])
    }
    expect(results.filter((result) => result.includes('"ok":true'))).toEqual([expect.stringContaining('{"a":1}')])
  })
})
