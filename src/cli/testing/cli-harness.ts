import { type Deferred, deferred, HandClock, seededRandom, systemClock } from '../../base/index.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import { type Contexts, NO_CONTEXTS } from '../contexts.ts'
import type { HostFacts } from '../../domain/installation-facts.ts'
import type {
  CliDeps,
  ConnectOptions,
  EmbeddedOptions,
  HostQuestion,
  Signal,
  Terminal,
  UpOptions,
  WorkerOptions,
} from '../deps.ts'
import { runCli } from '../run-cli.ts'
import { ScriptedClient, T0 } from './scripted-client.ts'

/** Runs command lines against a scripted client; what goes in and out is at hand. */
export class CliHarness {
  out = ''
  err = ''
  stdinText = ''
  /** What somebody types, line by line. */
  typed: string[] = []
  files: Record<string, string> = {}
  env: Record<string, string | undefined> = {}
  tty = false
  colour = false
  columns = 80
  rows = 24
  readonly client = new ScriptedClient()
  readonly clock = new HandClock(T0)
  readonly connects: ConnectOptions[] = []
  contexts: Contexts = NO_CONTEXTS
  readonly ups: UpOptions[] = []
  readonly embedded: EmbeddedOptions[] = []
  readonly workers: WorkerOptions[] = []
  readonly bugs: unknown[] = []
  readonly questions: HostQuestion[] = []
  /** What the host tells of itself. */
  host: HostFacts = { directories: [], port: null, store: null, migrations: null, keyFiles: [], telemetry: null }
  /** Texts that an editor was opened with, and what it makes of them. */
  readonly edits: string[] = []
  editor: (text: string) => string | Promise<string> = (text) => text
  closed = 0
  stopped = 0
  /** Ends what `up` and `worker` started. */
  readonly ended: Deferred<{ failure: FailureRecord | null }> = deferred()
  /** Whether the server takes the worker. */
  isRegistered = true
  /** What finding an address fails with. */
  addressFailure: Error | null = null
  /** What a start fails with. */
  startFailure: Error | null = null
  #handlers = new Set<(signal: Signal) => void>()

  signal(signal: Signal = 'SIGINT'): void {
    for (const handler of this.#handlers) handler(signal)
  }

  get listeners(): number {
    return this.#handlers.size
  }

  run(...argv: string[]): Promise<number> {
    return runCli(argv, this.#deps())
  }

  get jsonLines(): unknown[] {
    return this.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown)
  }

  #start<T>(value: T): Promise<T> {
    return this.startFailure ? Promise.reject(this.startFailure) : Promise.resolve(value)
  }

  #deps(): CliDeps {
    const terminal = (write: Terminal['write']) => ({
      write,
      isTty: this.tty,
      columns: this.columns,
      rows: this.rows,
    })
    return {
      stdout: terminal(
        (text) => void (this.out += typeof text === 'string' ? text : Buffer.from(text).toString('utf8')),
      ),
      stderr: terminal((text) => void (this.err += text)),
      stdin: {
        readText: () => Promise.resolve(this.stdinText),
        isTty: this.tty,
        readLine: () => Promise.resolve(this.typed.shift() ?? null),
      },
      env: this.env,
      clock: this.clock,
      random: seededRandom(1),
      version: '1.2.3',
      colour: this.colour,
      cwd: '/srv',
      readFile: (path) => {
        const text = this.files[path]
        return text === undefined
          ? Promise.reject(new Error(`ENOENT: no such file or directory, open '${path}'`))
          : Promise.resolve(text)
      },
      readTemplate: (name) => Promise.resolve([{ path: 'workflow.yaml', text: `# ${name}\n` }]),
      makeFiles: (files) => {
        const existing = files.map((file) => file.path).filter((path) => this.files[path] !== undefined)
        if (existing.length === 0) for (const file of files) this.files[file.path] = Buffer.from(file.text).toString()
        return Promise.resolve(existing)
      },
      listDirectory: (path) => {
        const below = Object.keys(this.files).filter((file) => file.startsWith(`${path}/`))
        const names = [...new Set(below.map((file) => file.slice(path.length + 1).split('/')[0] ?? ''))]
        return Promise.resolve(
          below.length === 0 ? null : names.map((name) => ({ name, isDirectory: !below.includes(`${path}/${name}`) })),
        )
      },
      editText: async (text) => {
        this.edits.push(text)
        const edited = await this.editor(text)
        return { text: edited, file: '/data/edit.yaml', remove: () => Promise.resolve() }
      },
      writeFile: async (path, content, { force, check }) => {
        if (this.files[path] !== undefined && !force) return false
        const chunks: Uint8Array[] = []
        for await (const chunk of content) chunks.push(chunk)
        check()
        this.files[path] = Buffer.concat(chunks).toString('utf8')
        return true
      },
      contexts: {
        path: '/config/contexts.json',
        read: () => Promise.resolve(this.contexts),
        write: (contexts) => {
          this.contexts = contexts
          return Promise.resolve()
        },
      },
      connect: (options) => {
        this.connects.push(options)
        return this.#start(this.client)
      },
      startUp: (options) => {
        this.ups.push(options)
        return this.#start({
          address: 'http://127.0.0.1:7780',
          tokenFile: '/data/token',
          logFile: null,
          stop: () => this.#stop(),
          ended: this.ended.promise,
        })
      },
      startEmbedded: (options) => {
        this.embedded.push(options)
        const close = () => {
          this.closed++
          return Promise.resolve()
        }
        return this.#start({ client: this.client, close })
      },
      startWorker: (options) => {
        this.workers.push(options)
        return this.#start({
          address: options.server ?? 'http://127.0.0.1:7780',
          name: options.name ?? 'host',
          isRegistered: this.isRegistered,
          metricsAddress: null,
          ended: this.ended.promise,
          drain: () => this.#stop(),
        })
      },
      examineHost: (question) => {
        this.questions.push(question)
        return Promise.resolve(this.host)
      },
      findServer: ({ server }) => {
        if (this.addressFailure) return Promise.reject(this.addressFailure)
        const given = server ?? this.env['ORRERY_SERVER']
        const addressFrom = server ? '--server' : given ? 'ORRERY_SERVER' : 'the default'
        return Promise.resolve({ address: given ?? 'http://127.0.0.1:7780', addressFrom })
      },
      onSignal: (handler) => {
        this.#handlers.add(handler)
        return () => this.#handlers.delete(handler)
      },
      reportBug: (error) => {
        this.bugs.push(error)
        return '/data/bugs/1.txt'
      },
    }
  }

  #stop(): Promise<void> {
    this.stopped++
    return Promise.resolve()
  }
}

const SETTLE_MS = 30_000

/** Lets everything that is ready run, until `check` holds; fails when that takes far too long. */
export async function settle(check: () => boolean): Promise<void> {
  const deadline = systemClock.monotonic() + SETTLE_MS
  while (!check()) {
    if (systemClock.monotonic() > deadline) throw new Error('the state was never reached')
    // Real time passes here: the imports of a command are loaded meanwhile, not in microtasks.
    await systemClock.sleep(1)
  }
}
