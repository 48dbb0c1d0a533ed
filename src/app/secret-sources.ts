import { open, readdir, realpath } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { LIMITS } from '../domain/index.ts'
import type { FoundFile, SecretSources } from '../engine/index.ts'
import type { Env } from './places.ts'

/** Variables of this process that begin with the prefix, and files below a directory. */
export function secretSources(options: { env: Env; envPrefix: string; dir: string | null }): SecretSources {
  const { env, envPrefix, dir } = options
  return {
    envPrefix,
    // Whatever is asked for, no other variable is ever looked at.
    readVariable: (name) => (name.startsWith(envPrefix) ? env[name] : undefined),
    dir,
    readFile: (path) => (dir === null ? Promise.resolve({ kind: 'absent' }) : readBelow(dir, path)),
    listFiles: (path) => (dir === null ? Promise.resolve([]) : listBelow(dir, path)),
  }
}

/** The text of a file, without the newline at its end. Links are followed as long as they stay below the directory. */
async function readBelow(dir: string, path: readonly string[]): Promise<FoundFile> {
  if (path.some((part) => part === '' || part === '.' || part === '..' || /[/\\\0]/.test(part)))
    return { kind: 'refused', why: 'refused: the name leads out of the directory' }
  let handle
  try {
    const root = await realpath(dir)
    const real = await realpath(join(root, ...path))
    if (!real.startsWith(root + sep)) return { kind: 'refused', why: `refused: a link leads out to ${real}` }
    handle = await open(real, 'r')
    const info = await handle.stat()
    if (info.isDirectory()) return { kind: 'refused', why: 'is a directory' }
    if (info.size > LIMITS.secretValueBytes)
      return { kind: 'refused', why: `is larger than ${LIMITS.secretValueBytes} bytes` }
    const value = (await handle.readFile('utf8')).replace(/\r?\n$/, '')
    return value === '' ? { kind: 'refused', why: 'is empty' } : { kind: 'found', value }
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return { kind: 'absent' }
    return { kind: 'refused', why: errno === 'EACCES' ? 'the server may not read it' : `cannot be read: ${errno}` }
  } finally {
    await handle?.close()
  }
}

async function listBelow(dir: string, path: readonly string[]): Promise<string[]> {
  const entries = await readdir(join(dir, ...path), { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name)
}
