import { spawnSync } from 'node:child_process'
import { sandboxed } from '../tools/sandbox.ts'

/** Why no sandbox can be had on this machine; null when one can. Tests that need one are skipped by that name. */
export function whyNoSandbox(): string | null {
  try {
    const limits = { memoryBytes: 512 * 1024 * 1024, cpu: 5_000, processes: 16, fileBytes: 4_096 }
    const { file, args } = sandboxed({ files: null, limits, argv: ['/bin/true'] })
    const { status, stderr } = spawnSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
    return status === 0 ? null : `bwrap does not work here: ${stderr.trim()}`
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
