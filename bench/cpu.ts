import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'

const TICKS_PER_SECOND = 100

/** CPU seconds of a process so far, and of the children that it has waited for. */
function cpuSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i]), 0) / TICKS_PER_SECOND
  } catch {
    return 0
  }
}

/** CPU seconds of a process and of all below it. */
export function treeCpuSeconds(root: number): number {
  const parents = new Map<number, number>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8')
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended while we looked.
    }
  }
  const below = (pid: number): number[] => [
    pid,
    ...[...parents].filter(([, parent]) => parent === pid).flatMap(([child]) => below(child)),
  ]
  return below(root).reduce((sum, pid) => sum + cpuSeconds(pid), 0)
}

/**
 * Ms of a fixed piece of work on one core, the best of five: how fast the machine is at this moment. Shared machines change by half within minutes,
 * which no load average shows; compare rows by it.
 */
export function paceMs(): number {
  const block = Buffer.alloc(1024 * 1024, 7)
  let best = Infinity
  for (let round = 0; round < 5; round++) {
    const begin = process.hrtime.bigint()
    for (let i = 0; i < 8; i++) createHash('sha256').update(block).digest()
    let text = ''
    for (let i = 0; i < 20_000; i++) text = JSON.stringify({ i, text: text.slice(0, 64) })
    best = Math.min(best, Number(process.hrtime.bigint() - begin) / 1e6)
  }
  return Number(best.toFixed(1))
}
