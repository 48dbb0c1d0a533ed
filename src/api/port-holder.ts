import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** The process that listens on a TCP port, as far as /proc tells this user; null when it does not. */
export function findPortHolder(port: number): { pid: number; name: string } | null {
  const inodes = new Set([...listeningInodes('/proc/net/tcp', port), ...listeningInodes('/proc/net/tcp6', port)])
  if (inodes.size === 0) return null
  for (const pid of namesIn('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const fd of namesIn(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(orEmpty(() => readlinkSync(`/proc/${pid}/fd/${fd}`)))?.[1]
      // The name alone: a command line may hold secrets.
      if (inode !== undefined && inodes.has(inode))
        return { pid: Number(pid), name: orEmpty(() => readFileSync(`/proc/${pid}/comm`, 'utf8')).trim() }
    }
  }
  return null
}

const LISTEN = '0A'

function listeningInodes(file: string, port: number): string[] {
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  return orEmpty(() => readFileSync(file, 'utf8'))
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[1]?.endsWith(`:${hexPort}`) && columns[3] === LISTEN)
    .map((columns) => columns[9] ?? '')
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return [] // another user's process, or one that is gone
  }
}

function orEmpty(read: () => string): string {
  try {
    return read()
  } catch {
    return '' // as above; systems without /proc as well
  }
}
