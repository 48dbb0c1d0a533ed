import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Clock, type Json, type RedactedStream, Redactor } from '../base/index.ts'
import { Failure, failureRecord, type FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import {
  type Backend,
  type CommandEnd,
  type CommandHandle,
  type CommandSpec,
  type CommandTraces,
  type EndOfCommand,
  isStaged,
  type OutputSegment,
  type Stage,
  type StageEnd,
  type Taken,
} from './backend.ts'
import { takeExports, takeFile, takeText } from './hand-on.ts'
import { isGoodStage, labelOfStage, shownCommand, textOfEnd } from './stage-text.ts'

/** What a scripted command does, in order. One that runs out of acts exits with 0. */
export type Act =
  | { print: string; to?: 'stdout' | 'stderr' }
  /** Prints what it got on its standard input. */
  | { printStdin: true }
  /** Prints the value of a variable of its environment, or nothing. */
  | { printEnv: string }
  /** Leaves its JSON output. */
  | { output: Json }
  /** Leaves variables in its `$ORRERY_ENV`. */
  | { exports: string }
  /** Leaves a file in its workspace. */
  | { write: string; text: string }
  /** Goes on after `release(name)`. */
  | { hold: string }
  | { sleepMs: number }
  | { exit: number }
  | { signal: string }
  /** The process goes and leaves no status. */
  | { lose: true }
  /** Only as the first act: it never ran. */
  | { refuse: FailureRecord }

export interface ScriptedBackendOptions {
  clock: Clock
  /** Where workspaces and output files are made. */
  root: string
  /** Asked for each command of an attempt; `argv` is that of the one. */
  script(spec: CommandSpec): Act[]
}

export interface ScriptedBackend extends Backend {
  /** Lets every command that holds, or will hold, on `name` go on. */
  release(name: string): void
  /** A worker that starts again: the same commands, seen by a new backend. */
  reborn(): ScriptedBackend
}

interface World {
  attempts: Map<string, ScriptedHandle>
  kept: Map<string, { path: string; until: number }>
  holds: Map<string, PromiseWithResolvers<void>>
}

/** A backend for tests: commands follow a script instead of running. Commands live on in memory when it is closed. */
export function createScriptedBackend(options: ScriptedBackendOptions): ScriptedBackend {
  return backendOf(options, { attempts: new Map(), kept: new Map(), holds: new Map() })
}

function backendOf(options: ScriptedBackendOptions, world: World): ScriptedBackend {
  return {
    name: 'scripted',
    async start(spec) {
      const known = world.attempts.get(spec.key)
      if (known) return known
      const handle = new ScriptedHandle(spec, options, world)
      world.attempts.set(spec.key, handle)
      await handle.begun
      return handle
    },
    // One whose workspace is still being filled never was.
    recover: () => Promise.resolve([...world.attempts.values()].filter((handle) => handle.hasBegun)),
    sweepKept() {
      let removed = 0
      for (const [key, kept] of world.kept) {
        if (kept.until > options.clock.now()) continue
        rmSync(kept.path, { recursive: true, force: true })
        world.kept.delete(key)
        removed++
      }
      return Promise.resolve(removed)
    },
    close: () => Promise.resolve(),
    release: (name) => holdOf(world, name).resolve(),
    reborn: () => backendOf(options, world),
  }
}

function holdOf(world: World, name: string): PromiseWithResolvers<void> {
  const known = world.holds.get(name)
  if (known) return known
  const hold = Promise.withResolvers<void>()
  world.holds.set(name, hold)
  return hold
}

class ScriptedHandle implements CommandHandle {
  readonly key: string
  readonly note: string
  readonly workspace: string
  readonly ended: Promise<EndOfCommand>
  /** Resolves when the workspace is filled. */
  readonly begun: Promise<void>
  startedAt: number | null = null
  hasBegun = false
  readonly #spec: CommandSpec
  readonly #options: ScriptedBackendOptions
  readonly #clock: Clock
  readonly #world: World
  readonly #segments: OutputSegment[] = []
  readonly #redactor: Redactor
  readonly #streams: Record<'stdout' | 'stderr', RedactedStream>
  readonly #stop = Promise.withResolvers<'canceled' | 'timed_out'>()
  readonly #stages: StageEnd[] = []
  readonly #begun = Promise.withResolvers<void>()
  #outputFile: string | null = null
  #exported: Readonly<Record<string, string>> = {}
  #tailFrom = 0
  /** What the command itself printed. */
  #stdout = ''
  /** Names the command that runs: what one still does that was stopped counts for nothing. */
  #running: { stage: Stage; number: number; of: number } | null = null
  #isOver = false
  #more = Promise.withResolvers<void>()

  constructor(spec: CommandSpec, options: ScriptedBackendOptions, world: World) {
    this.key = spec.key
    this.note = spec.note
    this.#spec = spec
    this.#options = options
    this.#clock = options.clock
    this.#world = world
    this.#redactor = new Redactor(spec.redact ?? [])
    this.#streams = { stdout: this.#redactor.stream(), stderr: this.#redactor.stream() }
    this.workspace = join(options.root, encodeURIComponent(spec.key))
    mkdirSync(this.workspace, { recursive: true })
    this.begun = this.#begun.promise
    this.ended = this.#live()
  }

  async *output(after: number): AsyncIterable<OutputSegment> {
    for (let next = after; ;) {
      const more = this.#more.promise
      const wasOver = this.#isOver
      const segment = this.#segments[next]
      if (segment) {
        next++
        yield segment
      } else if (wasOver) return
      else await more
    }
  }

  cancel(): Promise<void> {
    this.#stop.resolve('canceled')
    return Promise.resolve()
  }

  async forget({ failed }: { failed: boolean }): Promise<{ path: string; until: number } | null> {
    await this.ended
    this.#world.attempts.delete(this.key)
    if (!failed || this.#spec.keepOnFailureMs === null) {
      rmSync(this.workspace, { recursive: true, force: true })
      return null
    }
    const kept = { path: this.workspace, until: this.#clock.now() + this.#spec.keepOnFailureMs }
    this.#world.kept.set(this.key, kept)
    return kept
  }

  async #live(): Promise<EndOfCommand> {
    const { timeoutMs, tearDown, fill } = this.#spec
    if (fill) {
      const failure = await fill(this.workspace).then(() => null, failureOf)
      if (failure?.code === 'attempt.stale_lease') this.#world.attempts.delete(this.key)
      if (failure) return this.#over({ kind: 'not_started', failure })
    }
    const first = this.#acts(this.#spec.argv)[0]
    if (isStaged(this.#spec) || !first || !('refuse' in first)) this.startedAt = this.#clock.now()
    this.hasBegun = true
    this.#begun.resolve()
    const past = new AbortController()
    if (timeoutMs !== null) {
      this.#clock.sleep(timeoutMs, past.signal).then(
        () => this.#stop.resolve('timed_out'),
        () => {}, // it ended in time
      )
    }
    const stopped = this.#stop.promise.then((reason) =>
      past.signal.aborted ? new Promise<never>(() => {}) : this.#stoppedEnd(reason),
    )
    const end = await Promise.race([this.#work(), stopped])
    past.abort()
    const good = end.kind === 'exited' && end.exitCode === 0
    const taken = good ? this.#take() : null
    if (tearDown) await this.#tearDown(tearDown)
    return this.#over(end, {
      ...(isStaged(this.#spec) ? { stages: this.#stages } : {}),
      ...(taken ? { taken } : {}),
      ...(this.#spec.exportEnv && good ? { exported: { ...this.#exported } } : {}),
    })
  }

  #over(end: CommandEnd, traces: CommandTraces = {}): EndOfCommand {
    this.#settle()
    this.#isOver = true
    this.hasBegun = true
    this.#begun.resolve()
    this.#wake()
    return { ...end, ...traces, endedAt: this.#clock.now() }
  }

  async #work(): Promise<CommandEnd> {
    for (const [i, argv] of (this.#spec.setUp ?? []).entries()) {
      const of = this.#spec.setUp?.length ?? 0
      const end = await this.#run({ stage: 'setUp', number: i + 1, of }, argv)
      if (end.kind !== 'exited' || end.exitCode !== 0) return end
    }
    return this.#run({ stage: 'command', number: 1, of: 1 }, this.#spec.argv)
  }

  async #tearDown({ commands, timeoutMs }: { commands: readonly string[][]; timeoutMs: number }): Promise<void> {
    const over = new AbortController()
    const late = this.#clock.sleep(timeoutMs, over.signal).then(
      (): CommandEnd => this.#stoppedEnd('timed_out'),
      () => new Promise<never>(() => {}),
    )
    let isLate = false
    for (const [i, argv] of commands.entries()) {
      const plan = { stage: 'tearDown', number: i + 1, of: commands.length } as const
      if (!isLate) isLate = (await Promise.race([this.#run(plan, argv), late])).kind === 'timed_out'
      else this.#ended(plan, this.#stoppedEnd('timed_out'))
    }
    over.abort()
  }

  async #run(plan: { stage: Stage; number: number; of: number }, argv: readonly string[]): Promise<CommandEnd> {
    this.#running = plan
    this.#tailFrom = this.#segments.length
    if (isStaged(this.#spec)) this.#say(`${labelOfStage(plan)}: ${shownCommand(argv, this.#redactor)}\n`)
    for (const act of this.#acts(argv)) {
      const end = await this.#do(act)
      // Stopped meanwhile: whoever stopped it has said how it ended.
      if (this.#running !== plan) return new Promise<never>(() => {})
      if (end !== null) return this.#ended(plan, end)
    }
    return this.#ended(plan, { kind: 'exited', exitCode: 0, tail: this.#tail, outputFile: this.#outputFile })
  }

  #ended(plan: { stage: Stage; number: number; of: number }, given: CommandEnd): CommandEnd {
    this.#settle()
    this.#running = null
    let end = 'tail' in given ? { ...given, tail: this.#tail } : given
    if (end.kind === 'exited' && end.exitCode === 0 && this.#spec.exportEnv && plan.stage !== 'tearDown') {
      const what = `the ${labelOfStage(plan)} of ${this.key}`
      const { env, failure } = takeExports(this.#envFile, this.#exported, { redactor: this.#redactor, what })
      this.#exported = env
      if (failure) end = { kind: 'unusable', failure, tail: this.#tail }
    }
    const stage: StageEnd = {
      stage: plan.stage,
      number: plan.number,
      end: end.kind === 'unusable' || end.kind === 'lost' ? 'exited' : end.kind,
      exitCode: 'exitCode' in end ? end.exitCode : end.kind === 'unusable' ? 0 : null,
      signal: 'signal' in end ? end.signal : null,
      durationMs: 0,
      ...('failure' in end ? { failure: end.failure } : {}),
    }
    const isGood = isGoodStage(stage)
    this.#stages.push(isGood || plan.stage !== 'tearDown' ? stage : { ...stage, tail: this.#tail })
    if (isStaged(this.#spec) && !isGood) this.#say(`${labelOfStage(plan)} ${textOfEnd(stage)}\n`)
    return end
  }

  #acts(argv: readonly string[]): Act[] {
    return this.#options.script({ ...this.#spec, argv: [...argv] })
  }

  #take(): Taken | null {
    const { take } = this.#spec
    if (!take) return null
    const options = { workspace: this.workspace, to: `${this.workspace}.taken`, redactor: this.#redactor }
    if (take.from === 'file') return takeFile(take.path, options)
    const bytes = Buffer.byteLength(this.#stdout)
    return bytes > LIMITS.outputBytes ? { problem: 'too_large', bytes } : takeText(this.#stdout, options)
  }

  get #envFile(): string {
    return `${this.workspace}.env`
  }

  async #do(act: Act): Promise<CommandEnd | null> {
    if (this.#isOver) return null
    if ('print' in act) this.#print(act.print, act.to ?? 'stdout')
    else if ('printStdin' in act) this.#print(this.#spec.stdin ?? '', 'stdout')
    else if ('printEnv' in act) {
      const env: Record<string, string> = { ...this.#spec.env, ...this.#exported }
      if (isStaged(this.#spec)) env['ORRERY_STAGE'] = this.#running?.stage ?? ''
      this.#print(env[act.printEnv] ?? '', 'stdout')
    } else if ('output' in act) {
      if (this.#spec.take) return null
      this.#outputFile = join(this.workspace, 'result.json')
      writeFileSync(this.#outputFile, JSON.stringify(this.#redactor.json(act.output)))
    } else if ('exports' in act) appendFileSync(this.#envFile, act.exports)
    else if ('write' in act) {
      const file = join(this.workspace, act.write)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, act.text)
    } else if ('hold' in act) await holdOf(this.#world, act.hold).promise
    else if ('sleepMs' in act) await this.#clock.sleep(act.sleepMs)
    else if ('exit' in act) {
      return { kind: 'exited', exitCode: act.exit, tail: this.#tail, outputFile: this.#outputFile }
    } else if ('signal' in act) {
      return { kind: 'signaled', signal: act.signal, tail: this.#tail, outputFile: this.#outputFile }
    } else if ('lose' in act) return { kind: 'lost', tail: this.#tail }
    else return { kind: 'not_started', failure: act.refuse }
    return null
  }

  #stoppedEnd(reason: 'canceled' | 'timed_out'): CommandEnd {
    const timeoutMs = this.#spec.timeoutMs ?? 0
    const end: CommandEnd =
      reason === 'canceled'
        ? { kind: 'canceled', tail: this.#tail }
        : { kind: 'timed_out', timeoutMs, exitCode: null, signal: 'SIGTERM', tail: this.#tail }
    return this.#running ? this.#ended(this.#running, end) : end
  }

  #print(text: string, stream: 'stdout' | 'stderr'): void {
    if (stream === 'stdout' && this.#running?.stage === 'command') this.#stdout += text
    this.#write(this.#streams[stream].push(text), stream)
  }

  #say(text: string): void {
    this.#write(text, 'system')
  }

  /** Nothing is held back any more. */
  #settle(): void {
    for (const stream of ['stdout', 'stderr'] as const) this.#write(this.#streams[stream].end(), stream)
  }

  #write(text: string, stream: OutputSegment['stream']): void {
    if (text === '') return
    for (let rest = text; rest !== ''; rest = rest.slice(LIMITS.logSegmentBytes / 4)) {
      const part = rest.slice(0, LIMITS.logSegmentBytes / 4)
      this.#segments.push({ index: this.#segments.length + 1, stream, at: this.#clock.now(), text: part })
    }
    this.#wake()
  }

  /** Of the command that runs or ran last. */
  get #tail(): string {
    let tail = ''
    for (let i = this.#segments.length - 1; i >= this.#tailFrom && tail.length < LIMITS.tailBytes; i--) {
      const segment = this.#segments[i]
      if (segment && segment.stream !== 'system') tail = segment.text + tail
    }
    return tail.slice(-LIMITS.tailBytes)
  }

  #wake(): void {
    this.#more.resolve()
    this.#more = Promise.withResolvers<void>()
  }
}

function failureOf(error: unknown): FailureRecord {
  return error instanceof Failure
    ? error.toRecord()
    : failureRecord('backend.start_failed', 'filling a workspace', { cause: error })
}
