import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

const read = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

/** Names this machine, this boot and this namespace of processes: within it, a pid means the same to everybody. */
export function hostIdentity(): string {
  let namespace = ''
  try {
    namespace = readlinkSync('/proc/self/ns/pid')
  } catch {
    // Not Linux: the name of the host has to do, and isAlive below never says that a process is gone.
  }
  return [hostname(), read('/etc/machine-id'), read('/proc/sys/kernel/random/boot_id'), namespace].join('/')
}

/** When a process started, in clock ticks since boot (proc(5), stat field 22); null where /proc cannot tell. */
export function processStart(pid: number): string | null {
  const stat = read(`/proc/${pid}/stat`)
  // The command name stands in brackets and may hold anything, so count from behind the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return stat === '' || fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null)
}

/** Whether a process of this host is alive, and the same one; null where that cannot be told. */
export function isProcessAlive(pid: number, start: string | null): boolean | null {
  if (read('/proc/self/stat') === '') return null
  const now = processStart(pid)
  return now !== null && (start === null || now === start)
}

/** Whether this process is in a container, as far as Docker and Podman let it know. */
export const isInContainer = (): boolean =>
  existsSync('/.dockerenv') || existsSync('/run/.containerenv') || process.env['KUBERNETES_SERVICE_HOST'] !== undefined
