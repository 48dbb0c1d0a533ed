import type { Clock, Random, Secret } from '../base/index.ts'
import type { ToolPrograms } from '../agents/index.ts'
import type { Client } from '../client/client.ts'
import type { HostFacts } from '../domain/installation-facts.ts'
import type { FailureRecord } from '../domain/failure.ts'
import type { ContextFile } from './contexts.ts'

export type Signal = 'SIGINT' | 'SIGTERM'

/** One of the two streams that a command writes to. */
export interface Terminal {
  write(text: string | Uint8Array): void
  readonly isTty: boolean
  /** Read before every frame, so that a resized window fits from the next one on. */
  readonly columns: number
  readonly rows: number
}

export type StoreOptions = { kind: 'embedded' } | { kind: 'postgres'; dsn: Secret }

/** Where secrets and the keys that seal them are; paths are absolute. */
export interface SecretsOptions {
  /** Null: ORRERY_SECRETS_KEY, else on the embedded store a file that is made there. */
  keyFile: string | null
  /** Directory of files of secrets. */
  dir: string | null
  /** Only variables that begin with it are read as secrets. */
  envPrefix: string
}

export type LogFormat = 'json' | 'text'
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** Where each component keeps its log, beside standard error. */
export interface LogFiles {
  dir: string
  /** A file is put aside before it grows beyond this. */
  maxBytes: number
  /** How many files that were put aside are kept. */
  keep: number
}

/** What flags say of the server to ask; what is left out is found. */
export interface ConnectOptions {
  server?: string | undefined
  token?: string | undefined
  /** Name of a server that this user has named. */
  context?: string | undefined
  /** File of the authority to trust beside the known ones. */
  ca?: string | undefined
  /** Whose token is looked for; that of people when absent. */
  role?: 'admin' | 'worker'
}

/** What `orrery up` was asked for; every path is absolute. */
export interface UpOptions {
  store: StoreOptions
  /** Null: the place that the host's habits suggest. */
  dataDir: string | null
  host: string
  port: number
  secrets: SecretsOptions
  /** Files of certificate and key; null: plain HTTP. */
  tls: { certFile: string; keyFile: string } | null
  /** Blocks of addresses whose X-Forwarded-* headers are believed. */
  trustedProxies: string[]
  /** Origins whose pages may ask. */
  corsOrigins: string[]
  /** The worker inside the server; null with --no-worker. */
  worker: {
    capacity: number
    labels: Record<string, string>
    modules: Record<string, string>
    programs: ToolPrograms
  } | null
  logFormat: LogFormat
  logLevel: LogLevel
  logFiles: LogFiles | null
  /** Whether /metrics is there. */
  metrics: boolean
}

export interface UpHandle {
  address: string
  /** File that holds the token of this server's administrator; null when another server of the database made the first one. */
  tokenFile: string | null
  /** Where the log is kept, when it is kept in a file. */
  logFile: string | null
  /** Takes nothing new, lets running work finish, then ends. */
  stop(): Promise<void>
  /** Settles when the server has ended, for whatever reason. */
  ended: Promise<{ failure: FailureRecord | null }>
}

/** The engine of one `orrery run FILE`, in this process. */
export interface EmbeddedOptions {
  store: StoreOptions
  dataDir: string | null
  secrets: SecretsOptions
  modules: Record<string, string>
  /** What there is for tools that are programs. */
  programs: ToolPrograms
  capacity: number
  labels: Record<string, string>
  /** Executes nothing: for commands that only look at the store or change it. */
  idle?: boolean
}

export interface EmbeddedHandle {
  client: Client
  close(): Promise<void>
}

export interface WorkerOptions {
  /** Null: as `connect` finds it. */
  server: string | null
  context: string | null
  ca: string | null
  token: Secret | null
  /** Null: named after the host. */
  name: string | null
  modules: Record<string, string>
  /** What the host has for tools that are programs. */
  programs: ToolPrograms
  capacity: number
  labels: Record<string, string>
  /** Null: every namespace that the token allows. */
  namespaces: string[] | null
  workspace: string | null
  logFormat: LogFormat
  logLevel: LogLevel
  logFiles: LogFiles | null
  /** Where the worker gives its metrics; null: nowhere. */
  metrics: { host: string; port: number } | null
}

export interface WorkerHandle {
  /** Address of the worker's metrics; null when there are none. */
  metricsAddress: string | null
  /** Where the worker takes its work from. */
  address: string
  name: string
  /** False when the server refused it; `ended` then says why. */
  isRegistered: boolean
  ended: Promise<{ failure: FailureRecord | null }>
  /** Finishes what runs, takes nothing new, then ends. */
  drain(): Promise<void>
}

/** A file of a project: a path, and its text or bytes. */
export interface ProjectFile {
  path: string
  text: string | Uint8Array
}

/** A text after the editor was closed, and the file that it is in until it is removed. */
export interface EditedText {
  text: string
  file: string
  remove(): Promise<void>
}

/** What `orrery doctor` wants to know of this host; every path is absolute. */
export interface HostQuestion {
  /** Null: the place that the host's habits suggest. */
  dataDir: string | null
  /** Null: below the data directory. */
  workspace: string | null
  /** Where a server would listen; null asks nothing. */
  port: { host: string; port: number } | null
  /** Null: the store is not looked at. */
  store: StoreOptions | null
  /** The file of keys for secrets as it was named (null: it was not), and whether the store makes one of its own. */
  keys: { file: string | null; isOwn: boolean }
}

/** Everything that commands need from outside; only `app/` makes the real ones. */
export interface CliDeps {
  stdout: Terminal
  stderr: Terminal
  stdin: {
    readText(): Promise<string>
    /** Whether somebody types there. */
    readonly isTty: boolean
    /** The next line; null when there is none any more, or the signal came first. */
    readLine(signal: AbortSignal): Promise<string | null>
  }
  env: Record<string, string | undefined>
  clock: Clock
  random: Random
  version: string
  /** Whether to colour: a terminal, and no NO_COLOR. */
  colour: boolean
  /** Absolute; paths that were given as arguments are relative to it. */
  cwd: string
  /** Rejects with the error of the operating system. */
  readFile(path: string): Promise<string>
  /** Files of one of the package's templates, by their paths in a project. */
  readTemplate(name: string): Promise<ProjectFile[]>
  /** Writes files that are not there yet, all or none; gives those that are there already. */
  makeFiles(files: readonly ProjectFile[]): Promise<string[]>
  /**
   * Writes a file under another name beside it first, and gives it its own when `check` holds: a part is never taken for the whole.
   * False when a file is there already and `force` is not set.
   */
  writeFile(
    path: string,
    content: AsyncIterable<Uint8Array>,
    options: { force: boolean; check(): void },
  ): Promise<boolean>
  /** What is in a directory; null when the path is not that of one. */
  listDirectory(path: string): Promise<{ name: string; isDirectory: boolean }[] | null>
  /** Opens a text in the person's editor and waits until it is closed; `name` ends the name of its file. */
  editText(text: string, name: string): Promise<EditedText>
  /** Address and token, in the orders that the help tells (client/unreachable.ts). */
  connect(options: ConnectOptions): Promise<Client>
  /** Servers that this user has named. */
  contexts: ContextFile
  startUp(options: UpOptions): Promise<UpHandle>
  startEmbedded(options: EmbeddedOptions): Promise<EmbeddedHandle>
  startWorker(options: WorkerOptions): Promise<WorkerHandle>
  /** Facts of this host, for its doctor. Changes nothing; what cannot be found out is a fact as well. */
  examineHost(question: HostQuestion): Promise<HostFacts>
  /** Which address `connect` would take, and what gave it. */
  findServer(options: ConnectOptions): Promise<{ address: string; addressFrom: string }>
  /** Calls the handler at every signal until the returned function is called. */
  onSignal(handler: (signal: Signal) => void): () => void
  /** Keeps the stack of a bug for a report; gives the place, or null when it could not be kept. */
  reportBug(error: unknown): string | null
}
