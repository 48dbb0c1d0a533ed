import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'

/** The last session's id, so that a restarted worker can say which session it replaces. Null when none is known. */
export async function readSessionFile(stateDir: string | null): Promise<string | null> {
  if (stateDir === null) return null
  try {
    const value: unknown = JSON.parse(await readFile(join(stateDir, 'session.json'), 'utf8'))
    if (typeof value !== 'object' || value === null || !('session' in value)) return null
    return typeof value.session === 'string' ? value.session : null
  } catch {
    // Absent or torn: the former session ends by itself when its lease runs out.
    return null
  }
}

export async function writeSessionFile(stateDir: string | null, session: string): Promise<void> {
  if (stateDir === null) return
  await mkdir(stateDir, { recursive: true })
  const path = join(stateDir, 'session.json')
  const file = await open(`${path}.new`, 'w')
  await file.writeFile(JSON.stringify({ session }))
  await file.datasync()
  await file.close()
  await rename(`${path}.new`, path)
}
