import { accessSync, constants, lstatSync, readlinkSync, statSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../../domain/failure.ts'
import { LIMITS } from '../../domain/limits.ts'

/** Where programs are looked for, within the sandbox and without. */
export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A program as the system would find it; null when it is not there. */
export function findProgram(name: string): string | null {
  const places = name.startsWith('/') ? [name] : SYSTEM_PATH.split(':').map((dir) => join(dir, name))
  return places.find(isExecutable) ?? null
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** Where the files of tools are within the sandbox. */
export const FILES_INSIDE = '/tools'

/** What of /etc a program needs that is no secret: names of libraries, certificates, the time zone. */
const ETC = ['alternatives', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'ssl', 'ca-certificates', 'pki', 'localtime']

export interface ProgramLimits {
  memoryBytes: number
  /** In ms; the kernel counts whole seconds. */
  cpu: number
  /** Null: any number. */
  processes: number | null
  fileBytes: number
}

export interface SandboxWish {
  /** A directory that is seen, not written, as `/tools`; null: none. */
  files: string | null
  /** Further paths that are seen, not written, where they are. */
  seen?: readonly string[]
  /** Null: what it may take is not bounded, but for its /tmp. */
  limits: ProgramLimits | null
  /** The program as it is found inside, and its arguments. */
  argv: readonly string[]
}

export interface Sandbox {
  file: string
  args: string[]
}

/**
 * Runs a program where there is no network, no home and no process but its own, the system can be read and not written, and /tmp is its
 * own. Throws `tool.isolation_unavailable`, naming what is missing: a program is never run with less than was asked for.
 */
export function sandboxed({ files, seen, limits, argv }: SandboxWish, find: typeof findProgram = findProgram): Sandbox {
  const bwrap = find('bwrap')
  if (bwrap === null) throw missing('bwrap', 'bubblewrap')
  return {
    file: bwrap,
    args: [
      ...['--unshare-all', '--unshare-user', '--uid', '65534', '--gid', '65534', '--hostname', 'tool'],
      ...['--die-with-parent', '--new-session', '--cap-drop', 'ALL', '--json-status-fd', '3'],
      ...['--ro-bind', '/usr', '/usr', ...['/bin', '/sbin', '/lib', '/lib32', '/lib64'].flatMap(systemFolder)],
      ...ETC.flatMap((name) => ['--ro-bind-try', `/etc/${name}`, `/etc/${name}`]),
      ...[
        '--proc',
        '/proc',
        '--dev',
        '/dev',
        '--size',
        String(Math.max(4_096, limits?.fileBytes ?? LIMITS.sandboxTmpBytes)),
        '--tmpfs',
        '/tmp',
      ],
      ...(files === null ? [] : ['--ro-bind', files, FILES_INSIDE]),
      ...(seen ?? []).flatMap((path) => ['--ro-bind', path, path]),
      ...['--chdir', '/tmp', '--'],
      ...(limits === null ? argv : limited(countable(limits), argv, find)),
    ],
  }
}

/** Until Linux 5.14 the processes of a sandbox are counted with all others of the worker's user, so that none could be begun. */
function countable(limits: ProgramLimits): ProgramLimits {
  const [major = 0, minor = 0] = release().split('.').map(Number)
  return major > 5 || (major === 5 && minor >= 14) ? limits : { ...limits, processes: null }
}

/** The same program with what the kernel is told that it may take. */
export function limited(
  { memoryBytes, cpu, processes, fileBytes }: ProgramLimits,
  argv: readonly string[],
  find: typeof findProgram = findProgram,
): string[] {
  const prlimit = find('prlimit')
  if (prlimit === null) throw missing('prlimit', 'util-linux')
  const seconds = Math.max(1, Math.ceil(cpu / 1_000))
  return [
    prlimit,
    `--data=${memoryBytes}`,
    // The soft one is told by a signal that says why; the hard one ends whoever does not listen.
    `--cpu=${seconds}:${seconds + 1}`,
    ...(processes === null ? [] : [`--nproc=${processes}`]),
    `--fsize=${fileBytes}`,
    '--core=0',
    '--',
    ...argv,
  ]
}

/** Of a merged system these are links into /usr. */
function systemFolder(path: string): string[] {
  try {
    return lstatSync(path).isSymbolicLink() ? ['--symlink', readlinkSync(path), path] : ['--ro-bind', path, path]
  } catch {
    return []
  }
}

function missing(program: string, name: string): Failure {
  return new Failure('tool.isolation_unavailable', `looking for ${program}, which a sandbox needs`, {
    evidence: { program, path: SYSTEM_PATH },
    remediation: `Install the package ${name} on the worker's host (apt-get install ${name}, dnf install ${name}, apk add ${name}); sandboxes need Linux.`,
  })
}

/** Throws `tool.isolation_unavailable` when the sandbox itself, and not the program in it, was what failed. */
export function refuseUnstarted(status: string, tail: string): void {
  if (status.includes('"child-pid"')) return
  throw new Failure('tool.isolation_unavailable', 'setting up the sandbox', {
    evidence: { program: 'bwrap', said: tail.trim().slice(-1_000) },
    remediation:
      'Allow unprivileged user namespaces on the host of the worker (user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run the worker where bwrap works.',
  })
}
