import { constants } from 'node:fs'
import { access, open, stat } from 'node:fs/promises'
import { basename, delimiter, join, resolve } from 'node:path'
import type { JsonObject } from '../../base/index.ts'
import { Failure, type FailureOptions } from '../../domain/failure.ts'

/** What a shell searches when PATH is not set. */
const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin'
const FIRST_LINE_BYTES = 256

type Look = 'executable' | 'absent' | 'directory' | 'not_executable'

/**
 * The file that `argv0` means for a command with this environment and working directory, absolute. Throws
 * `backend.executable_missing` with what was looked for and where.
 */
export async function findExecutable(
  argv0: string,
  where: { env: Record<string, string>; cwd: string },
): Promise<string> {
  const file = await search(argv0, where, argv0)
  const interpreter = await interpreterOf(file)
  if (interpreter !== null) await checkInterpreter(file, interpreter, where)
  return file
}

async function search(name: string, where: { env: Record<string, string>; cwd: string }, argv0: string) {
  if (name === '') throw missing('looking up an empty command name', { executable: name })
  if (name.includes('/')) {
    const path = resolve(where.cwd, name)
    const look = await lookAt(path)
    if (look === 'executable') return path
    throw missing(`looking up ${name}`, { executable: argv0, path, found: look }, adviceFor(look, path))
  }
  const searchPath = where.env['PATH'] ?? DEFAULT_PATH
  const directories = searchPath.split(delimiter).map((entry) => resolve(where.cwd, entry))
  let near: { path: string; look: Look } | null = null
  for (const directory of directories) {
    const path = join(directory, name)
    const look = await lookAt(path)
    if (look === 'executable') return path
    if (look !== 'absent') near ??= { path, look }
  }
  throw missing(
    `looking up ${name} on the command's PATH`,
    {
      executable: argv0,
      searched: directories,
      ...('PATH' in where.env ? {} : { path_default: true }),
      ...(near === null ? {} : { path: near.path, found: near.look }),
    },
    near === null ? undefined : adviceFor(near.look, near.path),
  )
}

async function lookAt(path: string): Promise<Look> {
  try {
    if ((await stat(path)).isDirectory()) return 'directory'
  } catch {
    return 'absent'
  }
  try {
    await access(path, constants.X_OK)
    return 'executable'
  } catch {
    return 'not_executable'
  }
}

/** The words of a `#!` line; null when the file has none or cannot be read. */
async function interpreterOf(file: string): Promise<{ path: string; argument: string | null } | null> {
  let handle
  try {
    handle = await open(file, 'r')
  } catch {
    return null // executable but not readable: the kernel will know
  }
  try {
    const head = Buffer.alloc(FIRST_LINE_BYTES)
    const { bytesRead } = await handle.read(head, 0, FIRST_LINE_BYTES, 0)
    const line = head.toString('latin1', 0, bytesRead).split('\n')[0] ?? ''
    const match = /^#![ \t]*([^ \t]+)(?:[ \t]+(.*))?$/.exec(line)
    return match?.[1] === undefined ? null : { path: match[1], argument: match[2] ?? null }
  } finally {
    await handle.close()
  }
}

async function checkInterpreter(
  script: string,
  { path, argument }: { path: string; argument: string | null },
  where: { env: Record<string, string>; cwd: string },
): Promise<void> {
  const look = await lookAt(resolve(where.cwd, path))
  if (look !== 'executable') {
    const carriageReturn = path.endsWith('\r')
    throw missing(
      `looking up the interpreter of ${script}`,
      { executable: script, interpreter: path, found: look },
      carriageReturn
        ? `The first line of ${script} ends with a carriage return: save the file with Unix line ends.`
        : `Install ${path} on the worker, or correct the first line of ${script}.`,
    )
  }
  // `#!/usr/bin/env node` has its own way to fail, with exit code 127 and a line that many have read wrongly.
  const program = argument?.trim().split(/[ \t]/)[0] ?? ''
  if (basename(path) === 'env' && /^[^-=][^=]*$/.test(program)) await search(program.replace(/\r$/, ''), where, script)
}

function adviceFor(look: Look, path: string): string | undefined {
  if (look === 'not_executable') return `Make the file executable: chmod +x ${path}`
  if (look === 'directory') return `${path} is a directory: name a program inside it.`
  return undefined
}

function missing(message: string, evidence: JsonObject, remediation?: string): Failure {
  const options: FailureOptions = { evidence, ...(remediation === undefined ? {} : { remediation }) }
  return new Failure('backend.executable_missing', message, options)
}
