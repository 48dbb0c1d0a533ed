import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Waits before each further try: mirrors that do not answer, and locks that another apt holds, mostly pass within a minute. */
const WAITS_MS = [5_000, 20_000]
/** No single call of apt may take longer. */
const CALL_MS = 180_000

/** A test puts its own in their place. */
export interface Installer {
  aptGet: (args: readonly string[]) => Pick<SpawnSyncReturns<string>, 'status' | 'stdout' | 'stderr'>
  wait: (ms: number) => Promise<void>
  say: (line: string) => void
  /** The lists of packages were fetched a moment ago: they need not be fetched for the next package too. */
  hasLists: boolean
}

const REAL: Installer = {
  hasLists: false,
  aptGet: (args) =>
    spawnSync('apt-get', ['-o', 'DPkg::Lock::Timeout=60', '-o', 'Acquire::Retries=2', ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: CALL_MS,
    }),
  wait: (ms) => sleep(ms),
  say: (line) => void process.stdout.write(`${line}\n`),
}

/** Whether packages are ours to install here: as root on Debian. */
export const mayInstall = (): boolean => existsSync('/etc/debian_version') && process.getuid?.() === 0

/** Installs a Debian package; what fails is said and, `tries` times in all, tried again. Whether it is there afterwards. */
export async function installPackage(name: string, options: { tries: number }, on: Installer = REAL): Promise<boolean> {
  const fails = (args: readonly string[]): boolean => {
    const { status, stdout, stderr } = on.aptGet(args)
    if (status !== 0) on.say(`apt-get ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`.trimEnd())
    return status !== 0
  }
  for (let tries = 1; ; tries++) {
    // It goes on even when that fails: what was fetched earlier may do.
    if (!on.hasLists || tries > 1) on.hasLists = !fails(['update'])
    if (!fails(['install', '-y', '--no-install-recommends', name])) return true
    if (tries >= options.tries) return false
    const waitMs = WAITS_MS[Math.min(tries, WAITS_MS.length) - 1] ?? 0
    on.say(`${name} was not installed; try ${tries + 1} of ${options.tries} in ${waitMs / 1000} s.`)
    await on.wait(waitMs)
  }
}
