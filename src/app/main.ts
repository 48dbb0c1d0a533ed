import { appendFileSync, mkdirSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CliDeps, Terminal } from '../cli/index.ts'
import { systemClock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import { contextPath } from './places.ts'
import { VERSION } from './version.ts'

const terminal = (stream: NodeJS.WriteStream): Terminal => ({
  write: (text) => void stream.write(text),
  isTty: stream.isTTY,
  get columns() {
    return stream.columns ?? 80
  },
  get rows() {
    return stream.rows ?? 24
  },
})

async function readStdin(): Promise<string> {
  let text = ''
  process.stdin.setEncoding('utf8')
  for await (const chunk of process.stdin) text += String(chunk)
  return text
}

async function readLine(signal: AbortSignal): Promise<string | null> {
  const { createInterface } = await import('node:readline')
  const lines = createInterface({ input: process.stdin })
  return new Promise((resolve) => {
    lines.once('line', resolve).once('close', () => resolve(null))
    signal.addEventListener('abort', () => resolve(null))
  }).finally(() => lines.close()) as Promise<string | null>
}

/** A path that is not there is no directory: whoever reads it says so. */
async function listDirectory(path: string): Promise<{ name: string; isDirectory: boolean }[] | null> {
  const found = await stat(path).catch(() => null)
  if (!found?.isDirectory()) return null
  const entries = await readdir(path, { withFileTypes: true })
  return entries.map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }))
}

function reportBug(error: unknown): string | null {
  try {
    const directory = join(tmpdir(), `orrery-${process.getuid?.() ?? 0}`)
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const file = join(directory, 'bugs.log')
    appendFileSync(
      file,
      `${new Date(systemClock.now()).toISOString()} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      { mode: 0o600 },
    )
    return file
  } catch {
    return null
  }
}

const { env } = process
const deps: CliDeps = {
  stdout: terminal(process.stdout),
  stderr: terminal(process.stderr),
  stdin: { readText: readStdin, isTty: process.stdin.isTTY, readLine },
  env,
  clock: systemClock,
  random: systemRandom,
  version: VERSION,
  colour: process.stdout.isTTY && !env['NO_COLOR'],
  cwd: process.cwd(),
  readFile: (path) => readFile(path, 'utf8'),
  readTemplate: async (name) => (await import('./project-files.ts')).readTemplate(name),
  makeFiles: async (files) => (await import('./project-files.ts')).makeFiles(files),
  writeFile: async (path, content, how) => (await import('./project-files.ts')).writeWhole(path, content, how),
  listDirectory,
  editText: async (text, name) => (await import('./edit-text.ts')).editText(text, name, env),
  // Each loads what it needs only when it is called: `--help` must be quick.
  connect: async (options) => (await import('./connect.ts')).connect(options, env),
  contexts: {
    path: contextPath(env),
    read: async () => (await import('./context-file.ts')).contextFile(env).read(),
    write: async (contexts) => (await import('./context-file.ts')).contextFile(env).write(contexts),
  },
  startUp: async (options) => (await import('./start-up.ts')).startUp(options, env),
  startEmbedded: async (options) => (await import('./start-embedded.ts')).startEmbedded(options, env),
  startWorker: async (options) => (await import('./start-worker.ts')).startWorker(options, env),
  examineHost: async (question) => {
    const { examineHost } = await import('./examine-host.ts')
    const { defaultDataDir } = await import('./places.ts')
    const dataDir = question.dataDir ?? defaultDataDir(env)
    return examineHost({ ...question, dataDir, workspace: question.workspace ?? join(dataDir, 'worker') }, env)
  },
  findServer: async (options) => (await import('./connect.ts')).findServer(options, env),
  onSignal(handler) {
    const onInt = () => handler('SIGINT')
    const onTerm = () => handler('SIGTERM')
    process.on('SIGINT', onInt)
    process.on('SIGTERM', onTerm)
    return () => {
      process.off('SIGINT', onInt)
      process.off('SIGTERM', onTerm)
    }
  },
  reportBug,
}

/** As a shell tells of a program that was ended by SIGPIPE: whoever read has gone, and that is no failure to speak of. */
const READER_GONE = 141
const leaveWithoutReader = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'EPIPE') throw error
  process.exit(READER_GONE)
}
process.stdout.on('error', leaveWithoutReader)
process.stderr.on('error', leaveWithoutReader)

const { runCli } = await import('../cli/index.ts')
const code = await runCli(process.argv.slice(2), deps)
// Whatever a second Ctrl-C left behind must not keep the process; what was written must get out first.
// A stream that holds nothing back is left alone: its reader may have gone content.
const held = [process.stdout, process.stderr].filter((stream) => stream.writableLength > 0)
await Promise.all(held.map((stream) => new Promise<void>((resolve) => void stream.write('', () => resolve()))))
process.exit(code)
