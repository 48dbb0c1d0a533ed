import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure } from '../domain/index.ts'
import type { Env } from './places.ts'

/** Opens a text in the editor of VISUAL or EDITOR, else vi, and waits until it is closed. The file is for its owner alone. */
export async function editText(
  text: string,
  name: string,
  env: Env,
): Promise<{ text: string; file: string; remove(): Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'orrery-edit-'))
  const file = join(directory, name)
  await writeFile(file, text, { mode: 0o600 })
  const editor = env['VISUAL'] || env['EDITOR'] || 'vi'
  // By the shell, because people write arguments into these variables; the file is an argument of its own.
  const child = spawn('/bin/sh', ['-c', `${editor} "$1"`, 'sh', file], { stdio: 'inherit' })
  const { promise, resolve, reject } = Promise.withResolvers<number | null>()
  child.once('error', reject).once('exit', (code) => resolve(code))
  const code = await promise
  if (code !== 0)
    throw new Failure('editor.failed', `editing ${name} with ${editor}`, { evidence: { editor, exit: code, file } })
  return { text: await readFile(file, 'utf8'), file, remove: () => rm(directory, { recursive: true, force: true }) }
}
