import { symlink, readdir, rename, rm, lstat, access, constants } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Clock, type Log, outOfScope, type Random, systemRandom } from '../../base/index.ts'
import { Failure } from '../../domain/failure.ts'
import { type Backend, type CommandHandle, type CommandSpec, isStaged } from '../backend.ts'
import { AttemptHandle, type Forget } from './attempt-handle.ts'
import { findExecutable } from './find-executable.ts'
import { readTail } from './frames.ts'
import {
  type AttemptPaths,
  attemptPaths,
  type AttemptRecord,
  directoryName,
  type ExitRecord,
  MARKER,
  readAttempt,
  readExit,
  readKept,
  type RootPaths,
  rootPaths,
  writeJson,
} from './layout.ts'
import { ProcessTree } from './process-tree.ts'
import { startFailure } from './start-failure.ts'
import { readClaim, ShimHosts, type ShimLink } from './shim-link.ts'
import type { HostNews } from './shim-protocol.ts'
import {
  errnoOf,
  makeAttemptDir,
  prepareRoot,
  prepareWorkdir,
  trashPath,
  workspaceFailure,
  writeAttempt,
} from './workspace.ts'

/** A shim host without commands and workers ends after this. */
const IDLE_EXIT_MS = 30_000
/** Takes the place of a host's id in the claim of an attempt that no host shall start any more. */
const DISCARDED = 'discarded'

export interface ProcessBackendOptions {
  /** Directory of this worker alone. Made at the first command. */
  root: string
  clock: Clock
  log: Log
  random?: Random
  idleExitMs?: number
}

/** Runs commands as processes of this host. Throws when the operating system is not Linux, which alone has /proc. */
export async function createProcessBackend(options: ProcessBackendOptions): Promise<Backend> {
  if (process.platform !== 'linux') {
    throw new Failure('config.value_unsupported', 'starting the process backend', {
      evidence: { setting: 'backend', value: 'process', platform: process.platform, accepted: ['linux'] },
      remediation: 'Run workers that execute commands on Linux; functions run everywhere.',
    })
  }
  const backend = new ProcessBackend(options)
  await backend.open()
  return backend
}

class ProcessBackend implements Backend {
  readonly name = 'process'
  readonly #root: RootPaths
  readonly #clock: Clock
  readonly #log: Log
  readonly #random: Random
  readonly #hosts: ShimHosts
  /** By key; news of the hosts finds its attempt here. */
  readonly #handles = new Map<string, AttemptHandle>()
  /** By key; two starts of one key share the first. */
  readonly #starts = new Map<string, Promise<CommandHandle>>()

  constructor(options: ProcessBackendOptions) {
    this.#root = rootPaths(resolve(options.root))
    this.#clock = options.clock
    this.#log = options.log
    this.#random = options.random ?? systemRandom
    this.#hosts = new ShimHosts({
      paths: this.#root,
      random: this.#random,
      log: options.log,
      idleExitMs: options.idleExitMs ?? IDLE_EXIT_MS,
      events: {
        // A host is shared by all that was started after it: what it says belongs to no single attempt.
        onNews: (news, link) => void outOfScope(() => this.#hear(news, link)),
        onDead: (link) => void outOfScope(() => this.#hostDied(link)),
      },
    })
  }

  /** Removes what an earlier life left in the trash, and what was kept long enough. */
  async open(): Promise<void> {
    for (const name of await list(this.#root.trash)) await this.#remove(join(this.#root.trash, name))
    await this.sweepKept()
    await access(this.#root.root, constants.W_OK).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') this.#log.warn('workspace root not writable', { root: this.#root.root, error })
    })
  }

  start(spec: CommandSpec): Promise<CommandHandle> {
    const known = this.#starts.get(spec.key)
    if (known) return known
    const start = this.#start(spec)
    this.#starts.set(spec.key, start)
    start.catch(() => this.#starts.delete(spec.key))
    return start
  }

  async recover(): Promise<CommandHandle[]> {
    const found: CommandHandle[] = []
    for (const name of await list(this.#root.attempts)) {
      const paths = attemptPaths(join(this.#root.attempts, name))
      if ((await readKept(paths)) !== null) continue
      const handle = await this.#find(paths)
      if (handle === null) continue
      if (!this.#starts.has(handle.key)) this.#starts.set(handle.key, Promise.resolve(handle))
      found.push(handle)
    }
    return found
  }

  async sweepKept(): Promise<number> {
    let removed = 0
    for (const name of await list(this.#root.attempts)) {
      const paths = attemptPaths(join(this.#root.attempts, name))
      const kept = await readKept(paths)
      if (kept === null || kept.until > this.#clock.now()) continue
      await this.#discard(paths)
      removed++
    }
    return removed
  }

  async close(): Promise<void> {
    for (const handle of this.#handles.values()) handle.abandon()
    await this.#hosts.close()
  }

  async #start(spec: CommandSpec): Promise<CommandHandle> {
    const paths = attemptPaths(join(this.#root.attempts, directoryName(spec.key)))
    const handle = this.#handleOf(spec, paths)
    try {
      await prepareRoot(this.#root)
      for (let isNew = await makeAttemptDir(paths); !isNew; isNew = await makeAttemptDir(paths)) {
        const earlier = await this.#find(paths)
        if (earlier !== null) return earlier
      }
      await writeAttempt(paths, spec)
      await spec.fill?.(paths.work)
      const cwd = await prepareWorkdir(paths.work, spec.workdir)
      const file = isStaged(spec) ? null : await findExecutable(spec.argv[0] ?? '', { env: spec.env, cwd })
      const link = await this.#hosts.current()
      this.#handles.set(spec.key, handle)
      handle.linkTo(link)
      link.send({
        do: 'start',
        key: spec.key,
        dir: paths.dir,
        file,
        argv: spec.argv,
        env: {
          ...spec.env,
          ORRERY_ATTEMPT: spec.key,
          ...(spec.take ? {} : { ORRERY_OUTPUT: paths.result }),
          ...(spec.exportEnv ? { ORRERY_ENV: paths.env } : {}),
          [MARKER]: paths.dir,
        },
        cwd,
        hasStdin: spec.stdin !== null,
        timeoutMs: spec.timeoutMs,
        killGraceMs: spec.killGraceMs,
        ...(spec.redact ? { redact: spec.redact } : {}),
        ...(spec.setUp ? { setUp: spec.setUp } : {}),
        ...(spec.tearDown ? { tearDown: spec.tearDown } : {}),
        ...(spec.take ? { take: spec.take } : {}),
        ...(spec.exportEnv ? { exportEnv: true } : {}),
      })
      // The host may have died before the order reached it; then nobody else will speak of it.
      if (!link.isOpen) await this.#lose(handle)
      await handle.settled
    } catch (error) {
      const failure = await workspaceFailure(error, paths.work, this.#root)
      if (failure.code === 'attempt.stale_lease') handle.finish(this.#endNotStarted(failure))
      else await this.#notStarted(handle, failure)
    }
    return handle
  }

  /** The attempt in that directory; null when it never reached a host, and is removed. */
  async #find(paths: AttemptPaths): Promise<AttemptHandle | null> {
    const record = await readAttempt(paths)
    if (record === null) return this.#discard(paths)
    const known = this.#handles.get(record.key)
    if (known) return known
    const handle = this.#handleOf(record, paths)
    this.#handles.set(record.key, handle)

    const exit = await readExit(paths)
    if (exit !== null) {
      handle.finish(exit)
      return handle
    }
    if (await takeClaim(paths)) {
      this.#handles.delete(record.key)
      return this.#discard(paths)
    }
    const host = await readClaim(paths.claim)
    const link = host === null || host === DISCARDED ? null : await this.#hosts.connect(host)
    if (link === null) await this.#lose(handle)
    else {
      handle.linkTo(link)
      link.send({ do: 'ask', key: record.key })
      if (!link.isOpen) await this.#lose(handle)
      await handle.settled
    }
    return handle
  }

  async #hear(news: HostNews, link: ShimLink): Promise<void> {
    if (news.is === 'hello') return
    const handle = this.#handles.get(news.key)
    if (!handle) return
    if (news.is === 'unknown') return this.#lose(handle)
    if (news.is !== 'refused') return handle.hear(news)
    const evidence = { executable: handle.record.argv[0] ?? '', errno: news.errno, host: link.id }
    await this.#notStarted(handle, startFailure(news, handle.key, evidence))
  }

  async #hostDied(link: ShimLink): Promise<void> {
    const orphans = [...this.#handles.values()].filter((handle) => handle.host === link.id && !handle.isOver)
    if (orphans.length === 0) return
    const lastWords = await this.#hosts.lastWords(link.id)
    this.#log.warn('shim host died', { host: link.id, attempts: orphans.map((h) => h.key), lastWords })
    await Promise.all(orphans.map((handle) => this.#lose(handle)))
  }

  /** Ends an attempt whose host is gone: with the status it wrote in time, else as lost, and without a process left. */
  async #lose(handle: AttemptHandle): Promise<void> {
    const { paths, key } = handle
    const exit = await readExit(paths)
    if (exit !== null) return handle.finish(exit)
    if (await takeClaim(paths)) {
      const failure = new Failure('backend.start_failed', `starting ${key}`, { cause: 'the shim host died before' })
      return this.#notStarted(handle, failure)
    }
    const startedAt = handle.startedAt ?? (await lstat(paths.claim).catch(() => null))?.mtimeMs ?? null
    const tree = new ProcessTree({ attemptDir: paths.dir, group: null, clock: this.#clock })
    const { found, survivors } = await tree.stop({ graceMs: 0 })
    this.#log.warn('attempt lost', { key, stopped: found.length, survivors: survivors.map((p) => p.pid) })
    const end = { kind: 'lost', tail: await readTail(paths.output) } as const
    await this.#record(handle, { startedAt, endedAt: this.#clock.now(), end })
  }

  async #notStarted(handle: AttemptHandle, failure: Failure): Promise<void> {
    await this.#record(handle, this.#endNotStarted(failure))
  }

  #endNotStarted(failure: Failure): ExitRecord {
    return { startedAt: null, endedAt: this.#clock.now(), end: { kind: 'not_started', failure: failure.toRecord() } }
  }

  async #record(handle: AttemptHandle, exit: Parameters<AttemptHandle['finish']>[0]): Promise<void> {
    // Best effort: this worker knows the end now; a later one would find it out again.
    await writeJson(handle.paths.exit, exit).catch((error: unknown) => {
      this.#log.debug('end of attempt not written', { key: handle.key, error })
    })
    handle.finish(exit)
  }

  #handleOf(record: AttemptRecord, paths: AttemptPaths): AttemptHandle {
    return new AttemptHandle(record, paths, (handle) => (outcome) => this.#forget(handle, outcome))
  }

  async #forget(handle: AttemptHandle, { failed }: { failed: boolean }): ReturnType<Forget> {
    const { paths, record, key } = handle
    await handle.ended
    this.#handles.delete(key)
    this.#starts.delete(key)
    const exists = await access(paths.work).then(
      () => true,
      () => false,
    )
    if (!failed || record.keepOnFailureMs === null || !exists) return this.#discard(paths)
    const until = this.#clock.now() + record.keepOnFailureMs
    await writeJson(paths.kept, { until })
    return { path: paths.work, until }
  }

  /** Out of sight at once, by one rename; a half removed attempt is never taken for one. */
  async #discard(paths: AttemptPaths): Promise<null> {
    const suffix = Buffer.from(this.#random.bytes(6)).toString('hex')
    const target = trashPath(this.#root, paths.dir.slice(this.#root.attempts.length + 1), suffix)
    try {
      await rename(paths.dir, target)
    } catch (error) {
      // Absent, or its parent is no directory: there is nothing to remove.
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return null
      throw error
    }
    await this.#remove(target)
    return null
  }

  async #remove(path: string): Promise<void> {
    await rm(path, { recursive: true, force: true }).catch((error: unknown) => {
      this.#log.warn('workspace not removed', { path, error })
    })
  }
}

/** True when no host had taken the attempt; none will from then on. */
async function takeClaim(paths: AttemptPaths): Promise<boolean> {
  try {
    await symlink(DISCARDED, paths.claim)
    return true
  } catch {
    return false
  }
}

async function list(dir: string): Promise<string[]> {
  return readdir(dir).catch(() => [])
}
