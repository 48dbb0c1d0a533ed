import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, type Json, type RedactedStream, Redactor } from '../base/index.ts'
import type { FailureRecord } from '../domain/failure.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Backend, CommandEnd, CommandHandle, CommandSpec, OutputSegment } from './backend.ts'

/** What a scripted command does, in order. One that runs out of acts exits with 0. */
export type Act =
  | { print: string; to?: 'stdout' | 'stderr' }
  /** Prints what it got on its standard input. */
  | { printStdin: true }
  /** Prints the value of a variable of its environment, or nothing. */
  | { printEnv: string }
  /** Leaves its JSON output. */
  | { output: Json }
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
    start(spec) {
      const known = world.attempts.get(spec.key)
      if (known) return Promise.resolve(known)
      const handle = new ScriptedHandle(spec, options, world)
      world.attempts.set(spec.key, handle)
      return Promise.resolve(handle)
    },
    recover: () => Promise.resolve([...world.attempts.values()]),
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
  readonly startedAt: number | null
  readonly workspace: string
  readonly ended: Promise<CommandEnd & { endedAt: number }>
  readonly #spec: CommandSpec
  readonly #clock: Clock
  readonly #world: World
  readonly #segments: OutputSegment[] = []
  readonly #redactor: Redactor
  readonly #streams: Record<'stdout' | 'stderr', RedactedStream>
  readonly #stop = Promise.withResolvers<'canceled' | 'timed_out'>()
  #outputFile: string | null = null
  #isOver = false
  #more = Promise.withResolvers<void>()

  constructor(spec: CommandSpec, options: ScriptedBackendOptions, world: World) {
    this.key = spec.key
    this.note = spec.note
    this.#spec = spec
    this.#clock = options.clock
    this.#world = world
    this.#redactor = new Redactor(spec.redact ?? [])
    this.#streams = { stdout: this.#redactor.stream(), stderr: this.#redactor.stream() }
    this.workspace = join(options.root, encodeURIComponent(spec.key))
    mkdirSync(this.workspace, { recursive: true })
    const acts = options.script(spec)
    const first = acts[0]
    this.startedAt = first && 'refuse' in first ? null : this.#clock.now()
    this.ended = this.#live(acts)
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

  async #live(acts: Act[]): Promise<CommandEnd & { endedAt: number }> {
    const over = new AbortController()
    const { timeoutMs } = this.#spec
    if (timeoutMs !== null) {
      this.#clock.sleep(timeoutMs, over.signal).then(
        () => this.#stop.resolve('timed_out'),
        () => {}, // it ended in time
      )
    }
    const stopped = this.#stop.promise.then((reason) => this.#stoppedEnd(reason))
    const end = await Promise.race([this.#perform(acts), stopped])
    over.abort()
    for (const stream of ['stdout', 'stderr'] as const) this.#write(this.#streams[stream].end(), stream)
    this.#isOver = true
    this.#wake()
    return { ...end, endedAt: this.#clock.now() }
  }

  async #perform(acts: Act[]): Promise<CommandEnd> {
    for (const act of acts) {
      const end = await this.#do(act)
      if (end !== null) return end
    }
    return { kind: 'exited', exitCode: 0, tail: this.#tail, outputFile: this.#outputFile }
  }

  async #do(act: Act): Promise<CommandEnd | null> {
    if (this.#isOver) return null
    if ('print' in act) this.#print(act.print, act.to ?? 'stdout')
    else if ('printStdin' in act) this.#print(this.#spec.stdin ?? '', 'stdout')
    else if ('printEnv' in act) this.#print(this.#spec.env[act.printEnv] ?? '', 'stdout')
    else if ('output' in act) {
      this.#outputFile = join(this.workspace, 'result.json')
      writeFileSync(this.#outputFile, JSON.stringify(this.#redactor.json(act.output)))
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
    if (reason === 'canceled') return { kind: 'canceled', tail: this.#tail }
    const timeoutMs = this.#spec.timeoutMs ?? 0
    return { kind: 'timed_out', timeoutMs, exitCode: null, signal: 'SIGTERM', tail: this.#tail }
  }

  #print(text: string, stream: 'stdout' | 'stderr'): void {
    this.#write(this.#streams[stream].push(text), stream)
  }

  #write(text: string, stream: 'stdout' | 'stderr'): void {
    if (text === '') return
    for (let rest = text; rest !== ''; rest = rest.slice(LIMITS.logSegmentBytes / 4)) {
      const part = rest.slice(0, LIMITS.logSegmentBytes / 4)
      this.#segments.push({ index: this.#segments.length + 1, stream, at: this.#clock.now(), text: part })
    }
    this.#wake()
  }

  get #tail(): string {
    let tail = ''
    for (let i = this.#segments.length - 1; i >= 0 && tail.length < LIMITS.tailBytes; i--) {
      tail = (this.#segments[i]?.text ?? '') + tail
    }
    return tail.slice(-LIMITS.tailBytes)
  }

  #wake(): void {
    this.#more.resolve()
    this.#more = Promise.withResolvers<void>()
  }
}
