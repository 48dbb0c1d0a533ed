import { readdirSync, readFileSync } from 'node:fs'
import type { Clock } from '../../base/index.ts'
import { MARKER } from './layout.ts'

export interface TreeProcess {
  pid: number
  parent: number
  group: number
  /** In clock ticks since boot. A pid may be used again; pid and start together may not. */
  start: string
  name: string
}

export interface StopResult {
  /** Those that were there at the first look. */
  found: TreeProcess[]
  /** Those that could not be ended, not even by KILL: stuck in the kernel, or another user's. */
  survivors: TreeProcess[]
}

/** Pids are given out in ascending order; none comes round twice in this time. */
const NO_WRAP_MS = 5_000
/** How long KILL is repeated before what is left counts as a survivor. */
const KILL_MAX_MS = 10_000
const LOOK_MIN_MS = 5
const LOOK_MAX_MS = 200

/**
 * The processes of one attempt, found by the marker in their environment, by the process group of the command, and by
 * descent from any of these; and every one that was found once, even when it later left its group and parent. What a
 * process started with an empty environment, a session of its own and no parent left is out of reach without cgroups.
 */
export class ProcessTree {
  readonly #marker: Buffer
  readonly #group: number | null
  readonly #clock: Clock
  readonly #beganAt: number
  readonly #known = new Map<number, string>()
  readonly #hasElders: boolean
  #leaderReaped = false

  /**
   * `group` is the pid of the command just started, which leads a group of its own; null when that is not known. `elders` are those whom commands of the
   * same attempt left that ran before it.
   */
  constructor(options: { attemptDir: string; group: number | null; clock: Clock; elders?: ProcessTree | null }) {
    this.#marker = Buffer.from(`${MARKER}=${options.attemptDir}\0`)
    this.#group = options.group
    this.#clock = options.clock
    this.#beganAt = options.clock.monotonic()
    this.#hasElders = Boolean(options.elders)
    if (options.elders) for (const [pid, start] of options.elders.#known) this.#known.set(pid, start)
  }

  /**
   * To be called in the same turn in which the command was reaped: from then on its pid may name somebody else's group.
   * True when it left processes behind.
   */
  leaderReaped(): boolean {
    const left = this.look().length > 0
    this.#leaderReaped = true
    return left
  }

  /** The processes that live now; zombies do not. */
  look(): TreeProcess[] {
    const all = readProcesses(this.#oldestPid())
    const byPid = new Map(all.map((p) => [p.pid, p]))
    const members = new Map<number, TreeProcess>()
    const add = (p: TreeProcess) => members.set(p.pid, p)

    for (const [pid, start] of this.#known) {
      const p = byPid.get(pid)
      if (p?.start === start) add(p)
      else this.#known.delete(pid)
    }
    // A group id stays taken while the group has a member; once it was empty it may belong to strangers.
    const groupIsOurs =
      this.#group !== null && (!this.#leaderReaped || [...members.values()].some((p) => p.group === this.#group))
    for (const p of all) {
      if (members.has(p.pid)) continue
      if ((groupIsOurs && p.group === this.#group) || this.#isMarked(p)) add(p)
    }
    for (let grown = true; grown;) {
      grown = false
      for (const p of all) {
        if (members.has(p.pid) || !members.has(p.parent)) continue
        add(p)
        grown = true
      }
    }
    members.delete(process.pid)
    for (const p of members.values()) this.#known.set(p.pid, p.start)
    return [...members.values()]
  }

  /** TERM to all that live now, after the grace KILL, repeated until none is left. */
  async stop({ graceMs }: { graceMs: number }): Promise<StopResult> {
    const began = this.#clock.monotonic()
    const found = this.look()
    // TERM only once and only to those: what a command starts in order to clean up is left alone during the grace.
    if (graceMs > 0) for (const p of found) signal(p, 'SIGTERM')
    let living = found
    for (let pauseMs = LOOK_MIN_MS; living.length > 0; pauseMs = Math.min(pauseMs * 2, LOOK_MAX_MS)) {
      const elapsed = this.#clock.monotonic() - began
      if (elapsed >= graceMs + KILL_MAX_MS) break
      if (elapsed >= graceMs) for (const p of living) signal(p, 'SIGKILL')
      await this.#clock.sleep(elapsed < graceMs ? Math.min(pauseMs, graceMs - elapsed) : LOOK_MIN_MS)
      living = this.look()
    }
    return { found, survivors: living }
  }

  /** No process of the attempt has a lower pid. Most commands are short, and looking at every process costs more than they do. */
  #oldestPid(): number {
    if (this.#group === null || this.#hasElders || this.#clock.monotonic() - this.#beganAt > NO_WRAP_MS) return 1
    const lastPid = Number(readFileSync('/proc/loadavg', 'latin1').trim().split(' ').at(-1))
    return lastPid >= this.#group ? this.#group : 1
  }

  #isMarked(p: TreeProcess): boolean {
    try {
      const environment = readFileSync(`/proc/${p.pid}/environ`)
      const at = environment.indexOf(this.#marker)
      return at === 0 || (at > 0 && environment[at - 1] === 0)
    } catch {
      return false // gone, or another user's
    }
  }
}

function signal(p: TreeProcess, name: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(p.pid, name)
    // A stopped process would keep TERM pending for ever.
    if (name === 'SIGTERM') process.kill(p.pid, 'SIGCONT')
  } catch {
    // Gone, or not ours to signal; the next look tells.
  }
}

function readProcesses(oldestPid: number): TreeProcess[] {
  const out: TreeProcess[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!(pid >= oldestPid)) continue // not a number, or too old
    const p = readProcess(pid)
    if (p !== null) out.push(p)
  }
  return out
}

/** Null when there is no such process, or only its zombie. */
function readProcess(pid: number): TreeProcess | null {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return null
  }
  // `pid (name) state parent group …`; the name may hold spaces and brackets.
  const open = stat.indexOf('(')
  const close = stat.lastIndexOf(')')
  const fields = stat.slice(close + 2).split(' ')
  const [state, parent, group] = fields
  if (state === 'Z' || state === 'X') return null
  return {
    pid,
    parent: Number(parent),
    group: Number(group),
    start: fields[19] ?? '',
    name: stat.slice(open + 1, close),
  }
}
