import { spawn } from 'node:child_process'

/** Ends git politely when the step is canceled; reading git must never take a lock that a person's own git would wait for. */
export interface GitOptions {
  repo: string
  signal?: AbortSignal
  /** git is stopped after this; the default is generous for a large history. */
  timeoutMs?: number
}

const BEFORE_EVERY_COMMAND = ['--no-optional-locks', '-c', 'core.quotePath=false', '-c', 'core.fsmonitor=false']
const TIMEOUT_MS = 60_000
const STDERR_CHARS = 2_000
/** Longest record that git may print between two separators. */
const RECORD_BYTES = 8 * 1024 * 1024

export class GitError extends Error {
  override name = 'GitError'
  readonly exitCode: number | null
  readonly stderr: string

  constructor(command: string, { exitCode, stderr }: { exitCode: number | null; stderr: string }) {
    super(`git ${command} ended with ${exitCode ?? 'a signal'}${stderr === '' ? '' : `: ${stderr}`}`)
    this.exitCode = exitCode
    this.stderr = stderr
  }
}

/**
 * What git prints, cut at each `separator` while it arrives, so that a history of any length needs the memory of one record.
 * Throws `GitError` at the end when git failed; leaving the loop early stops git.
 */
export async function* gitRecords(options: GitOptions, args: string[], separator = '\0'): AsyncGenerator<string> {
  const child = spawn('git', [...BEFORE_EVERY_COMMAND, '-C', options.repo, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? TIMEOUT_MS,
    ...(options.signal ? { signal: options.signal } : {}),
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(0, STDERR_CHARS)
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  // Whoever leaves the loop early never awaits the end; that is no unhandled failure.
  ended.catch(() => undefined)
  try {
    let rest = ''
    for await (const text of child.stdout.setEncoding('utf8') as AsyncIterable<string>) {
      const records = (rest + text).split(separator)
      rest = records.pop() ?? ''
      if (rest.length > RECORD_BYTES)
        throw new Error(`git ${args[0] ?? ''} printed a record over ${RECORD_BYTES} bytes`)
      yield* records
    }
    if (rest !== '') yield rest
    const exitCode = await ended
    if (exitCode !== 0) throw new GitError(args[0] ?? '', { exitCode, stderr: stderr.trim() })
  } finally {
    child.kill()
  }
}

/** All that git prints, without the last line break. */
export async function git(options: GitOptions, ...args: string[]): Promise<string> {
  let all = ''
  for await (const part of gitRecords(options, args, '\n')) all += `${part}\n`
  return all.trimEnd()
}

/** Null when git says no by its exit code; every other trouble is thrown. */
export async function gitOrNull(options: GitOptions, ...args: string[]): Promise<string | null> {
  try {
    return await git(options, ...args)
  } catch (error) {
    if (error instanceof GitError && error.exitCode !== null) return null
    throw error
  }
}
