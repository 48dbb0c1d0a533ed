import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../../base/clock.ts'
import type { Random } from '../../../base/random.ts'
import type { ToolResult } from '../../../domain/agents/tool-envelope.ts'
import { Failure } from '../../../domain/failure.ts'
import type { ToolSpec } from '../../../domain/kinds/tool.ts'
import { createEgress } from '../../egress.ts'
import { createToolRunner } from '../create-tool-runner.ts'
import { SYSTEM_PATH } from '../sandbox.ts'
import type { Fixture, Fixtures } from './fixtures.ts'

export interface FixtureOutcome {
  name: string
  passed: boolean
  result: ToolResult
  tries: number
  /** Lines that the tool said beside its result. */
  said: string[]
  wanted: Pick<Fixture, 'output' | 'fails'>
}

/** Calls a tool with each fixture, by the driver and in the isolation that a worker would use. `dir` holds its files. */
export async function runFixtures(
  tool: { name: string; spec: ToolSpec },
  fixtures: Fixtures,
  { dir, clock, random, signal }: { dir: string; clock: Clock; random: Random; signal: AbortSignal },
): Promise<FixtureOutcome[]> {
  const stop = fixtures.serve ? await serve(fixtures.serve, fixtures.ready ?? '', { dir, clock, signal }) : null
  const workdir = await mkdtemp(join(tmpdir(), 'orrery-tool-'))
  const egress = createEgress()
  // Whoever runs a tool of their own here means it to run.
  const runner = createToolRunner({ clock, random, programs: { files: dir, hostCommands: ['*'] } })
  try {
    const outcomes: FixtureOutcome[] = []
    for (const [i, fixture] of fixtures.fixtures.entries()) {
      const said: string[] = []
      const envelope = {
        version: 1 as const,
        tool: tool.name,
        idempotencyKey: `fixture/${i + 1}`,
        attempt: 1,
        operation: tool.spec.operation,
        input: fixture.input,
        timeoutMs: tool.spec.timeout,
        context: { namespace: 'default', runId: 'run_fixture', step: 'fixture', agent: null, traceparent: TRACE },
      }
      const env = {
        signal,
        egress,
        clock,
        workdir: async () => workdir,
        secret: secretsOf(fixtures),
        log: (line: string) => void said.push(line),
      }
      const { result, tries } = await runner.call(tool.name, tool.spec, envelope, env)
      const { name, output, fails } = fixture
      outcomes.push({
        name,
        passed: isAsWanted(result, fixture),
        result,
        tries,
        said,
        wanted: fails ? { fails } : { output },
      })
    }
    return outcomes
  } finally {
    await egress.close()
    await rm(workdir, { recursive: true, force: true })
    stop?.()
  }
}

const TRACE = '00-00000000000000000000000000000001-0000000000000001-01'

const secretsOf =
  ({ secrets }: Fixtures) =>
  ({ secret, key }: { secret: string; key: string }): Promise<string> => {
    const value = secrets[`${secret}/${key}`]
    return value === undefined
      ? Promise.reject(
          new Failure('secret.not_found', `looking for key ${key} of secret ${secret}`, {
            remediation: `Give a stand-in in the fixtures: secrets: { ${secret}/${key}: … }.`,
          }),
        )
      : Promise.resolve(value)
  }

function isAsWanted(result: ToolResult, { output, fails }: Fixture): boolean {
  if (result.ok) return fails === undefined && canonical(result.output) === canonical(output)
  return fails?.code === result.code && (fails.reason === undefined || result.reason.includes(fails.reason))
}

/** JSON in lines, with the names of each map in one order, so that two values that are the same read the same. */
export function canonical(value: unknown): string {
  return JSON.stringify(sorted(value), null, 2) ?? 'nothing'
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([name, entry]) => [name, sorted(entry)]))
}

const READY_MS = 15_000
const LOOK_MS = 50

/** Starts a program beside, and waits until it can be called. Gives what ends it with all that it started. */
async function serve(
  argv: string[],
  ready: string,
  { dir, clock, signal }: { dir: string; clock: Clock; signal: AbortSignal },
): Promise<() => void> {
  // It would be called instead, and nobody would know why the fixtures fail.
  if (await canConnect(ready))
    throw new Failure('tool.failed', `starting ${argv.join(' ')}: something else listens at ${ready} already`, {
      evidence: { ready },
      remediation: `End what listens at ${ready}, or let the server and the tool use another port: in serve, ready and the manifest.`,
    })
  const [program = '', ...args] = argv
  let said = ''
  let ended: string | null = null
  const child = spawn(program === 'node' ? process.execPath : program, args, {
    cwd: dir,
    detached: true,
    env: { PATH: SYSTEM_PATH, LANG: 'C.UTF-8' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4_000)))
  child.on('error', (error) => (ended = error.message))
  child.on('exit', (code, by) => (ended ??= `it ended with ${by ?? `code ${code}`}`))
  const stop = (): void => {
    if (child.pid === undefined || ended !== null) return
    process.kill(-child.pid, 'SIGKILL')
  }
  // Nobody else knows of it until it can be called.
  signal.addEventListener('abort', stop, { once: true })
  const until = clock.monotonic() + READY_MS
  while (!(await canConnect(ready))) {
    const why = ended ?? (clock.monotonic() > until ? `nobody listens at ${ready} after ${READY_MS / 1_000} s` : null)
    if (why === null) {
      await clock.sleep(LOOK_MS, signal)
      continue
    }
    stop()
    throw new Failure('tool.failed', `starting ${argv.join(' ')}: ${why}`, { evidence: { said } })
  }
  return stop
}

function canConnect(place: string): Promise<boolean> {
  const at = place.lastIndexOf(':')
  return new Promise((done) => {
    const socket = createConnection({
      host: place.slice(0, at).replace(/^\[(.*)\]$/, '$1'),
      port: Number(place.slice(at + 1)),
    })
    socket.once('connect', () => {
      socket.destroy()
      done(true)
    })
    socket.once('error', () => done(false))
  })
}
