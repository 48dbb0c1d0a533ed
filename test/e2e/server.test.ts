// `orrery up` and what asks it: the other commands, and programs that speak HTTP.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SseParser } from '../../src/contract/index.ts'
import { eventually } from '../support/eventually.ts'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'

const flow = (command: string): string => `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: flow }
spec:
  steps:
    - name: first
      command: ${JSON.stringify(command)}
    - name: second
      needs: [first]
      command: ['echo', 'got \${{ steps.first.output }}']
`

describe('orrery up', () => {
  let home = ''
  let address = ''
  let token = ''
  let up: OrreryProcess

  const env = () => ({ ORRERY_DATA_DIR: join(home, 'data') })
  const orrery = (...args: string[]) => runOrrery(args, { env: env(), cwd: home })
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(home, name), text)
    return name
  }
  /** Starts a run by the CLI and gives its id. */
  const detach = async (text: string): Promise<string> => {
    const started = await orrery('run', await file('detached.yaml', text), '--detach')
    expect(started, started.stderr).toMatchObject({ code: 0 })
    return started.stdout.trim()
  }
  const stateOf = async (id: string): Promise<unknown> => (await json('GET', `/v1/runs/${id}`)).body['state']
  const reaches = (id: string, state: string) =>
    eventually(async () => (await stateOf(id)) === state, { withinMs: 30_000, what: `${id} ${state}` })

  interface Answer {
    status: number
    headers: http.IncomingHttpHeaders
    text: string
    body: Record<string, unknown>
  }
  /** One raw request. A server that answers before it has read all may cut the connection after its answer. */
  function json(
    method: string,
    path: string,
    options: { body?: string; headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...options.headers }
    const outgoing = http.request(address + path, { method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => {
        const isJson = (response.headers['content-type'] ?? '').includes('json')
        const body = isJson ? (JSON.parse(text) as Record<string, unknown>) : {} // or the test fails here
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(options.body)
    return promise
  }

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-e2e-'))
    up = startOrrery(['up', '--port', '0', '--log-level', 'warn'], { env: env() })
    address = (await up.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 }))[1] ?? ''
    token = (await readFile(join(home, 'data', 'admin.token'), 'utf8')).trim()
  })
  afterAll(async () => {
    expect(await up.stop()).toEqual({ code: 0, signal: null })
    // Nothing that a caller did is a fault of the server.
    expect(up.output()).not.toMatch(/internal\.bug|UnhandledPromise|\n\s+at /)
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('is found by the commands that follow: a run is started, listed, shown and its log followed', async () => {
    const id = await detach(flow('for i in 1 2 3; do echo line $i; sleep 0.2; done'))
    const logs = await orrery('runs', 'logs', id, '-f')
    expect(logs.code).toBe(0)
    expect(logs.stdout.match(/line \d/g)).toEqual(['line 1', 'line 2', 'line 3'])
    expect((await orrery('runs', 'list')).stdout).toContain(id)
    const shown = await orrery('runs', 'show', id)
    expect(shown.stdout).toMatch(/first +succeeded/)
    expect((await orrery('runs', 'show', id.slice(-8))).stdout).toContain(id)
    const listed = await orrery('runs', 'list', '--state', 'succeeded', '--json')
    expect(listed.stdout).toContain(id)
  })

  test('cancels a run, and says so when there is nothing left to cancel', async () => {
    const id = await detach(flow('sleep 60'))
    await reaches(id, 'running')
    expect(await orrery('runs', 'cancel', id)).toMatchObject({ code: 0 })
    await reaches(id, 'canceled')
    const again = await orrery('runs', 'cancel', id)
    expect(again.code).not.toBe(70)
    expect(again.stdout + again.stderr).toMatch(/canceled|run\.finished/)
  })

  test('retries a failed run once its cause is mended, and skips a step that cannot be', async () => {
    const id = await detach(flow(`test -e ${join(home, 'mended')}`))
    await reaches(id, 'failed')
    await writeFile(join(home, 'mended'), '')
    expect(await orrery('runs', 'retry', id)).toMatchObject({ code: 0 })
    await reaches(id, 'succeeded')
    const retried = await orrery('runs', 'retry', id)
    expect(retried).toMatchObject({ code: 1, stderr: expect.stringContaining('run.not_recoverable') })

    const other = await detach(flow('exit 1'))
    await reaches(other, 'failed')
    expect(await orrery('runs', 'skip', other, 'first', '--output', '"instead"')).toMatchObject({ code: 0 })
    await eventually(async () => (await orrery('runs', 'logs', other)).stdout.includes('got instead'), {
      withinMs: 40_000,
    })
    expect(await orrery('runs', 'skip', other, 'frist')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('step.not_found'),
    })
  })

  test('answers to what is wrong by its code: unknown runs, wrong tokens, no server', async () => {
    const unknown = await orrery('runs', 'show', 'run_00000000000000000000000000')
    expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('run.not_found') })
    const refused = await orrery('runs', 'list', '--server', address, '--token', 'wrong')
    expect(refused).toMatchObject({ code: 77, stderr: expect.stringContaining('client.unauthorized') })
    const nobody = await orrery('runs', 'list', '--server', 'http://127.0.0.1:1')
    expect(nobody).toMatchObject({ code: 69, stderr: expect.stringContaining('client.server_unreachable') })
    expect(nobody.stderr).toContain('--server')
    const second = await orrery('up', '--port', '0')
    expect(second).toMatchObject({ code: 78, stderr: expect.stringContaining('storage.locked') })
    expect(second.stderr).toContain(String(up.pid))
    const local = await orrery('run', await file('a.yaml', flow('true')))
    expect(local).toMatchObject({ code: 78, stderr: expect.stringContaining('--server') })
  })

  test('a worker with a wrong token leaves at once and says what to do', async () => {
    const end = await orrery('worker', '--server', address, '--token', 'wrong', '--workspace', join(home, 'w'))
    expect(end).toMatchObject({ code: 77, stderr: expect.stringContaining('worker.auth_failed') })
  })

  test('explains codes and tells its version without a server', async () => {
    expect((await orrery('explain', 'step.timed_out')).stdout).toContain('Raise the timeout')
    expect(await orrery('explain', 'step.timd_out')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('step.timed_out'),
    })
    expect((await orrery('version')).stdout).toMatch(/^orrery \d+\.\d+\.\d+\n$/)
  })

  test('sends events as SSE, and from where a cut stream stopped', async () => {
    const id = await detach(flow('true'))
    const whole = await json('GET', `/v1/runs/${id}/events`, { headers: { accept: 'text/event-stream' } })
    const frames = new SseParser().push(whole.text)
    expect(whole.headers['content-type']).toContain('text/event-stream')
    expect(frames.map((f) => f.id)).toEqual(frames.map((_, i) => String(i + 1)))
    expect(frames.map((f) => f.event)).toEqual([...frames.slice(1).map(() => 'changes'), 'end'])
    const rest = await json('GET', `/v1/runs/${id}/events`, {
      headers: { accept: 'text/event-stream', 'last-event-id': '2' },
    })
    expect(new SseParser().push(rest.text)).toEqual(frames.slice(2))
    const wrong = await json('GET', `/v1/runs/${id}/events`, {
      headers: { accept: 'text/event-stream', 'last-event-id': 'x' },
    })
    expect(wrong).toMatchObject({ status: 400, body: { code: 'request.invalid' } })
  })

  test('gives one run for one Idempotency-Key, and refuses the key for another request', async () => {
    const headers = { 'idempotency-key': 'e2e-once' }
    const body = JSON.stringify({ manifest: flow('true') })
    const first = await json('POST', '/v1/runs', { body, headers })
    const second = await json('POST', '/v1/runs', { body, headers })
    expect([first.status, second.status]).toEqual([201, 200])
    expect(second.body['id']).toBe(first.body['id'])
    const other = await json('POST', '/v1/runs', { body: JSON.stringify({ manifest: flow('false') }), headers })
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency.key_reused' } })
  })

  const step = (i: number) => ({ name: `s${i}`, command: ['true'] })
  const workflow = (steps: unknown[]) => ({
    apiVersion: 'orrery.dev/v1',
    kind: 'Workflow',
    metadata: { name: 'big' },
    spec: { steps },
  })
  test.each<[string, string | (() => string), number, string | RegExp]>([
    ['10 MB', () => JSON.stringify({ manifest: 'x'.repeat(10_000_000) }), 413, 'request.too_large'],
    [
      'a graph of 100,000 steps',
      () => JSON.stringify({ workflow: workflow(Array.from({ length: 100_000 }, (_, i) => step(i))) }),
      400,
      'run.too_large',
    ],
    [
      'a graph of 20,001 steps',
      () => JSON.stringify({ workflow: workflow(Array.from({ length: 20_001 }, (_, i) => step(i))) }),
      400,
      'run.too_large',
    ],
    ['a YAML bomb', () => JSON.stringify({ manifest: bomb() }), 400, 'manifest.invalid'],
    [
      'a NUL byte in its inputs',
      JSON.stringify({ manifest: flow('true'), inputs: { a: 'x\0y' } }),
      400,
      'request.invalid',
    ],
    ['half a surrogate in its labels', '{"manifest":"x","labels":{"a":"\\ud800"}}', 400, 'request.invalid'],
    ['100,000 brackets', () => '['.repeat(100_000), 400, 'request.invalid'],
    ['deep nesting', () => `{"inputs":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}}`, 400, 'request.invalid'],
    ['no JSON', '{"manifest": ', 400, 'request.invalid'],
    ['a key that does not exist', '{"manifst": "x"}', 400, 'request.invalid'],
    ['nothing', '', 400, 'request.invalid'],
    ['a list', '[]', 400, 'request.invalid'],
    ['__proto__', '{"__proto__": {"admin": true}, "manifest": "x"}', 400, /request\.invalid|manifest\.invalid/],
  ])('refuses a request with %s by its code', async (_, body, status, code) => {
    const answer = await json('POST', '/v1/runs', { body: typeof body === 'string' ? body : body() })
    const isOf = typeof code === 'string' ? new RegExp(`^${code.replace('.', '\\.')}$`) : code
    expect(answer.body['code']).toMatch(isOf)
    if (typeof code === 'string') expect(answer.status).toBe(status)
    else expect([400, 413]).toContain(answer.status)
    expect(answer.headers['content-type']).toContain('application/problem+json')
    expect(answer.body['remediation']).not.toBe('')
    expect((await json('GET', '/healthz')).status).toBe(200)
  })
})

/** Ten levels of ten aliases each. */
function bomb(): string {
  const levels = Array.from({ length: 10 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(', ')}]`)
  return `l0: &l0 x\n${levels.join('\n')}\n`
}
